"""What a node answers the screens of work, captions, query and project, for the pictures of them."""

import io

from PIL import Image, ImageDraw

from p2pcap.node import chunk_map, manifest_info
from p2pcap.node.chunk_map import ChunkClaim, ChunkMap, StageChunks
from p2pcap.node.manifest_info import KeyDetail, ManifestInfo, PromptDetail, StageDetail
from p2pcap_tui.feed import Found
from tests.tui.canned import HOSTILE, NOW, CannedClient, CannedFeed, peer_id

DAY = 86_400

MANIFEST = ManifestInfo(
    id="ab12" * 16,
    name="Shapes",
    title="Shapes",
    description="Five million drawings of shapes, for models that should learn to count.",
    license="CC0-1.0",
    version=7,
    created=int(NOW) - 9 * DAY,
    expires=int(NOW) + 200 * DAY,
    ends=int(NOW) + 230 * DAY,
    root_version=2,
    root_expires=int(NOW) + 700 * DAY,
    manifest_expires=int(NOW) + 200 * DAY,
    signed_by=peer_id(1),
    keys=(KeyDetail("root", 2, (peer_id(90), peer_id(91), peer_id(92))), KeyDetail("coordinator", 1, (peer_id(1),))),
    verifiers=(peer_id(1), peer_id(7)),
    former_keys=(),
    admission="invite",
    wait_for_engines=1,
    attempts=3,
    error_authors=2,
    peer_audits=512,
    bans=True,
    stages=(
        StageDetail(
            name="describe",
            task="5f0c1d2e3a4b5c6d",
            model="example/tiny-vl",
            revision="0123456789abcdef0123456789abcdef01234567",
            edge=1024,
            dtype="bfloat16",
            prompts=(
                PromptDetail("describe", "Describe the image in one or two sentences.", "", 160),
                PromptDetail("objects", "Name the objects, separated by commas.", "", 60),
            ),
            audit="by tokens: 0 of 5000 honest items called bad; a ban takes 4",
        ),
    ),
    images=5_000_000,
    chunks=5_000,
)

CAPTIONS = (
    ("A big red circle left of a small green star on a grey ground.", "circle, star", "attic-3090", 12, True),
    ("Three blue squares in a row; the last one is turned.", "square", "person 2", None, False),
    ("A yellow triangle inside a white ring, close to the upper edge.", "triangle, ring", HOSTILE, None, False),
    ("Two green stars, one above the other.", "star", "attic-3090", None, False),
    ("An empty ground with a thin black line from corner to corner.", "line", "person 5", 12, False),
)


def caption_rows(count: int = 60) -> Found:
    """Rows as p2pcap_tui.caption_sql asks for them."""
    rows: list[list[object]] = []
    for number in range(count):
        text, objects, name, sealed, right = CAPTIONS[number % len(CAPTIONS)]
        texts, error, reason = [text, objects], "", ""
        if number % 17 == 5:
            texts, error, reason = [], "undecodable", "The file ends before the image does."
        rows.append([
            f"drawings/{number // 20:03}/{1204 - number:05}.png", 1_918, 900 - number, f"{number + 1:064x}", "describe",
            ["describe", "objects"], texts, error, reason, name, peer_id(number % 5), int(NOW) - 2 * number, sealed,
            right, number == 9, number == 11, f"https://example.org/drawings/{1204 - number}.png", None,
        ])  # fmt: skip
    return Found([], rows, False)


def drawing() -> bytes:
    """A big red circle left of a small star, as it were."""
    picture = Image.new("RGB", (96, 64), (120, 120, 128))
    pen = ImageDraw.Draw(picture)
    pen.ellipse((10, 12, 50, 52), fill=(200, 40, 40))
    pen.polygon(
        [(72, 22), (76, 32), (86, 32), (78, 38), (81, 48), (72, 42), (63, 48), (66, 38), (58, 32), (68, 32)], "green"
    )
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


class ScreenClient(CannedClient):
    """A node of a large project in the middle of its work."""

    def chunk_map(self) -> bytes:
        claims = tuple(
            ChunkClaim("describe", chunk, peer_id(number), name, number == 0, NOW + lease, done, 1_000, idle)
            for number, (chunk, name, lease, done, idle) in enumerate(
                [
                    (1_918, "attic-3090", 1_085, 612, False),
                    (1_919, "person 2", 240, 128, False),
                    (1_921, HOSTILE, 95, 0, True),
                    (1_922, "", 600, 961, False),
                    (1_925, "person 5", 12, 448, False),
                ]
            )
        )
        letters = ["v" if chunk % 7 < 3 else "d" for chunk in range(1_918)] + ["."] * 3_082
        letters[407] = letters[1_203] = "x"
        letters[1_930] = letters[1_931] = "-"
        for claim in claims:
            letters[claim.chunk] = "c"
        return chunk_map.encode(ChunkMap(NOW, (StageChunks("describe", "".join(letters)),), claims, len(claims)))

    def manifest(self) -> bytes:
        return manifest_info.encode(MANIFEST)

    def image(self, chunk: int, item: int, hash_: str) -> bytes:
        return drawing()


class ScreenFeed(CannedFeed):
    """A feed whose SELECTs find what the screens are about."""

    async def select(self, sql: str, rows: int = 500, seconds: float = 10.0) -> Found:
        self.asked.append(sql)
        if "FROM found c" in sql:
            return caption_rows()
        if "contributors" in sql:
            made = [["attic-3090", 41_210, 3], [HOSTILE, 20_004, 0], ["person 2", 9_120, 41]]
            return Found(["author_name", "rows", "errors"], made, False)
        return self.rows
