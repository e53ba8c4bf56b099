"""The Kubernetes operator: reconciles VisualIndex resources into Ray clusters and Serve applications."""
