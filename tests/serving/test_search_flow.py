"""A picture in, similar items out."""

from .conftest import Served
from .pictures import picture


async def put(served: Served, seed: int, **fields: str) -> dict[str, object]:
    answer = await served.client.post(
        "/api/images", files={"image": ("p.jpg", picture(seed))}, data={"key": f"k{seed}", **fields}
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_an_uploaded_picture_is_found_by_itself(served: Served) -> None:
    written = [await put(served, seed) for seed in range(6)]
    answer = await served.client.post(
        "/api/search",
        files={"image": ("q.jpg", picture(3))},
        data={"token": written[-1]["token"], "limit": "3"},
    )
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [len(found["hits"]), found["hits"][0]["image_id"]] == [3, written[3]["image_id"]]
    assert found["hits"][0]["score"] > 0.999
    assert found["complete"]
    assert "decode" in answer.headers["server-timing"]
