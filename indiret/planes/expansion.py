"""Verified query expansion: ask again with the parts of answers that planes have verified.

A photo of the landmark from the side may match none of the query's patches, but those of an answer
from between. So the first answers that the network believes ask, too, each with the part where its
plane puts the query's frame; what only they find stays below what the query finds as well.

Chapter: *Sphere or plane?*
"""

from collections.abc import Sequence

import numpy as np
import torch

from indiret.planes.features import PlaneFeatures, Template
from indiret.planes.network import NAME, PlaneNetRetriever, load_plane_network
from indiret.retrieval import Retriever, Scores, register_family

EXPANDED = f"{NAME}+vqe"
CORNERS = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
ANSWERS = 4  # first answers that ask, the query's own photo among them; see record 23
CHAIN = 8.0  # taken off the margins of what an answer finds; mAP is flat from 6 to 10


class ExpandedPlaneRetriever(PlaneNetRetriever):
    """`PlaneNetRetriever` with a second round: the highest of the margins by query and answers.

    So the score of a photo depends on the photos that it is ranked with, and a round costs up to
    `ANSWERS` times the first. Features are not kept on disk.
    """

    encode_to_pack = Retriever.encode_to_pack
    pack = Retriever.pack
    unpack = Retriever.unpack
    fingerprint = Retriever.fingerprint

    def score(self, query: PlaneFeatures, database: Sequence[PlaneFeatures]) -> Scores:
        """Margins, (len(database),)."""
        first = super().score(query, database)
        rounds, (slope, offset) = [first], self.network.calibration.double().tolist()
        for place in np.argsort(-first, kind="stable")[:ANSWERS].tolist():
            if slope * first[place] + offset < 0:  # less probable than not
                break
            found = super().score(self.part(query, database[place]), database) - CHAIN
            found[place] = first[place]  # a photo finds itself
            rounds.append(found)
        return np.max(rounds, axis=0)

    def part(self, query: PlaneFeatures, answer: PlaneFeatures) -> PlaneFeatures:
        """An answer of which only those patches ask that lie where the query's frame does."""
        corners = torch.from_numpy(self.move_by_votes(query, answer, CORNERS))
        low, high = corners.amin(0), corners.amax(0)

        def inside(template: Template) -> Template:
            kept = ((template.points >= low) & (template.points <= high)).all(-1)
            return template._replace(patches=template.patches * kept[..., None])

        return answer._replace(template=inside(answer.template), close=inside(answer.close))


register_family(
    EXPANDED,
    "plane-net, and what its first answers find with their verified parts",
    lambda name: name == EXPANDED,
    lambda name: ExpandedPlaneRetriever(load_plane_network()),
)
