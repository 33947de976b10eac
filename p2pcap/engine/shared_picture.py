"""A picture that vLLM does not copy for each prompt.

vLLM turns every picture upright first, twice for one that it has not seen (normalize_image in vllm.multimodal.image),
and Pillow's exif_transpose copies a picture that is upright: 35 ms for 12 megapixels, for nothing, because ours are.

Always holds: who writes into a copy gets pixels of his own first. That is Pillow's own rule for pictures marked
`readonly`, which those are that it maps from a file.
"""

from PIL import Image


class SharedPicture(Image.Image):
    """A picture whose copies share its pixels until one of them is written to."""

    @classmethod
    def of(cls, picture: Image.Image) -> "SharedPicture":
        """The same picture; `picture` is written to no more."""
        shared = cls()
        shared.__dict__.update(picture.__dict__)
        shared.readonly = 1
        return shared

    def copy(self) -> Image.Image:
        """A picture with the same pixels."""
        return SharedPicture.of(self)
