"""Pictures made smaller and packed, as pages and widgets hold them.

Chapter: *Quick tour*.
"""

import io

import numpy as np
from PIL import Image

from indiret.figures.style import Picture

JPEG_QUALITY = 80


def shrink(picture: Picture, long_side: int) -> Picture:
    """The picture with at most so many pixels on its long side.

    Examples
    --------
    >>> shrink(np.zeros((100, 200, 3), dtype=np.uint8), 50).shape
    (25, 50, 3)
    """
    image = Image.fromarray(picture)
    image.thumbnail((long_side, long_side))
    return np.asarray(image)


def jpeg(picture: Picture) -> bytes:
    """The picture as the bytes of a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
