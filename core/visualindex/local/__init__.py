"""The whole service on one machine, without Kubernetes: Postgres, Ray and the proxy under one supervisor."""
