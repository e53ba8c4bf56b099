"""Bodies from servers that a resource names: no more of them is kept in memory than an answer of ours may have."""

import httpx


async def body_of(response: httpx.Response, most_bytes: int) -> bytes:
    """The body of a streamed response. Raises httpx.DecodingError when it is longer than `most_bytes`."""
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) > most_bytes:
            raise httpx.DecodingError(
                f"the answer has more than {most_bytes} bytes", request=response.request
            )
    return bytes(body)
