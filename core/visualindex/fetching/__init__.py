"""Fetching pictures by URL without letting the URL turn the service against its own network."""

from visualindex.fetching.fetcher import Fetched, SafeFetcher
from visualindex.fetching.resolving import Resolver, SystemResolver

__all__ = ["Fetched", "Resolver", "SafeFetcher", "SystemResolver"]
