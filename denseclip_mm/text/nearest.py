"""What learned contexts are nearest to in the token vocabulary (CoOp, Zhou et al. 2022)."""

from denseclip_mm.text.tower import CLIPTextTower

import torch
from torch import Tensor


@torch.no_grad()
def nearest_tokens(text_encoder: CLIPTextTower, vectors: Tensor,
                   count: int) -> list[list[tuple[str, float]]]:
    """The tokens whose embeddings are nearest to some vectors.

    Args:
        text_encoder: the text tower, with its weights.
        vectors: (N, D) vectors of the tower's width, such as learned contexts.
        count: how many tokens for each vector.

    Returns:
        For each vector its nearest tokens and their Euclidean distances, the nearest first.

    Raises:
        ValueError: if ``count`` is not between 1 and the number of tokens.

    Examples:
        >>> from denseclip_mm.text import CLIPTextTower
        >>> tower = CLIPTextTower(model='DemoCLIP', pretrained='demo')
        >>> tower.init_weights()
        >>> star = tower.tower.token_embedding.weight[tower.tokenize('star')]
        >>> nearest_tokens(tower, star, count=2)
        [[('star', 0.0), ('crates', 0.69)]]
    """
    tokenizer = text_encoder.tokenizer
    table_VD = text_encoder.tower.token_embedding.weight[:tokenizer.vocab_size]
    if not 1 <= count <= len(table_VD):
        raise ValueError(f'cannot list the {count} nearest tokens; give a number from 1 to '
                         f'{len(table_VD)}, the size of the vocabulary')
    distances_NV = torch.cdist(vectors[None], table_VD[None],
                               compute_mode='donot_use_mm_for_euclid_dist')[0]
    nearest = distances_NV.topk(count, largest=False)
    return [[(tokenizer.readable(token), distance) for token, distance in zip(*row, strict=True)]
            for row in zip(nearest.indices.tolist(), nearest.values.tolist(), strict=True)]
