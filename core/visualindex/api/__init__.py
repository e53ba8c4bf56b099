"""The HTTP contract: request and response models shared by the gateway, the client and the CLI."""
