"""The Ray Serve application: gateway, encoders, shards and the web page."""
