"""The texts of a model's classes.

Shapes: B images, K classes, S texts (classes and their synonyms).
"""

import torch
from torch import Tensor, nn

from denseclip_mm.class_names import split_synonyms

_REDUCTIONS = {'best': 'amax', 'mean': 'mean'}


class Vocabulary(nn.Module):
    """Class names, laid out for a prompt.

    Attributes:
        names: the K classes.
        texts: the S texts, the synonyms of a class one after the other.
        class_of_text: (S,) class of each text.
        trees: the prompt's layout of the texts.

    Args:
        names: the K classes; ``a;b`` are synonyms.
        synonyms: the score of a class is its texts' ``'best'`` or ``'mean'``.

    Raises:
        ValueError: if ``synonyms`` is neither.
    """

    class_of_text: Tensor

    def __init__(self, names: list[str], synonyms: str = 'best') -> None:
        super().__init__()
        if synonyms not in _REDUCTIONS:
            raise ValueError(f"synonyms must be 'best' or 'mean', got {synonyms!r}")
        self.names = names
        self.synonyms = synonyms
        self.texts = [text for name in names for text in split_synonyms(name)]
        self.trees = nn.ModuleList()
        owners = [index for index, name in enumerate(names) for _ in split_synonyms(name)]
        self.register_buffer('class_of_text', torch.tensor(owners), persistent=False)

    def score_of_classes(self, score_BSHW: Tensor) -> Tensor:
        """(B, S, H, W) scores of texts to (B, K, H, W) scores of classes."""
        if len(self.texts) == len(self.names):
            return score_BSHW
        index = self.class_of_text[:, None, None].expand_as(score_BSHW)
        score_BKHW = score_BSHW.new_zeros(
            (score_BSHW.shape[0], len(self.names), *score_BSHW.shape[2:]))
        return score_BKHW.scatter_reduce(1, index, score_BSHW, _REDUCTIONS[self.synonyms],
                                         include_self=False)
