"""The HTTP routes: each translates a request, delegates, and translates the answer."""
