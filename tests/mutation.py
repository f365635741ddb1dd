"""Files with something wrong, made at random: what every reader is tried on."""

from collections.abc import Sequence
from random import Random


def mutate(data: bytes, chance: Random, pieces: Sequence[bytes]) -> bytes:
    """One to four changes: bytes, a bit, a piece gone, repeated or of another file, an end."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        ends = (chance.random() ** chance.randint(1, 3) for _ in range(2))  # more of the header
        at, to = sorted(int((len(changed) + 1) * end) for end in ends)
        few = at + chance.randint(1, 40)
        match chance.randrange(8):
            case 0:
                changed[at:few] = chance.randbytes(chance.randint(1, 8))
            case 1:
                changed[at:few] = bytes([chance.choice((0, 1, 127, 128, 255))]) * (few - at)
            case 2:
                changed[at : at + 1] = bytes(b ^ 1 << chance.randrange(8) for b in changed[at:][:1])
            case 3:
                del changed[at:few]
            case 4:
                changed[to:to] = changed[at:few] * chance.choice((1, 2, 500))
            case 5 | 6:
                piece = chance.choice(pieces)
                piece = piece[at:to] or piece
                changed[at : at + chance.choice((0, 1, 4, len(piece)))] = piece
            case 7 if chance.random() < 0.3:
                del changed[to:]
    return bytes(changed)
