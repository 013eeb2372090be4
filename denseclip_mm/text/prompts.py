"""The prompt family: how class names become text embeddings.

A prompt is built by the neck, which hands it the text tower (for its sizes and its tokenizer; no
prompt keeps it) and the texts. ``vocabulary`` lays texts out as token trees; ``forward`` embeds
them, (B, S, C) if the prompt ``depends_on_image`` and (1, S, C) if not. One text is one class name
or one of its synonyms. Here are the prompts without anything to learn; ``contexts`` and, above the
context decoder, ``denseclip_mm.models.image_prompts`` have the others.

Shapes: B images, S texts, M templates, T visual tokens, C embedding channels.
"""

from collections.abc import Sequence

from denseclip_mm.files import read_tensors
from denseclip_mm.text.tower import CLIPTextTower
from denseclip_mm.text.tree import grow_trees

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional as F

_TEMPLATE_LISTS = {
    'openai_imagenet': open_clip.OPENAI_IMAGENET_TEMPLATES,
    'simple_imagenet': open_clip.SIMPLE_IMAGENET_TEMPLATES,
}


class TemplatePrompt(nn.Module):
    """CLIP's hand-crafted templates, one or an ensemble (Radford et al. 2021, section 3.1.4).

    Each text is put into each template; the embeddings are normalised, averaged over the templates,
    and normalised again. Nothing is learned.

    Args:
        templates: one text, or several, with one ``{}`` each, for example ``'a photo of a {}.'``;
            or the name of one of open_clip's lists, ``'openai_imagenet'`` (80 templates) or
            ``'simple_imagenet'`` (7).
        text_encoder: the text tower.
        texts: class names and synonyms.

    Raises:
        ValueError: if there is no template, or one has no ``{}``.
    """

    class_specific = False
    depends_on_image = False

    def __init__(self, *, text_encoder: CLIPTextTower, texts: Sequence[str],
                 templates: str | Sequence[str] = 'a photo of a {}.') -> None:
        super().__init__()
        if isinstance(templates, str):
            listed = _TEMPLATE_LISTS.get(templates)
            templates = [template('{}') for template in listed] if listed else [templates]
        self.templates = list(templates)
        wrong = [template for template in self.templates if template.count('{}') != 1]
        if wrong or not self.templates:
            raise ValueError(f'a template needs one {{}} where the class name goes, got '
                             f'{wrong or self.templates}; lists of templates are '
                             f'{", ".join(_TEMPLATE_LISTS)}')

    def vocabulary(self, text_encoder: CLIPTextTower, texts: Sequence[str]) -> nn.ModuleList:
        """Token trees of S * M prompts, the templates of a text one after the other.

        Raises:
            ValueError: if a prompt has more tokens than the tower has positions.
        """
        prompts = []
        for text in texts:
            for template in self.templates:
                symbols = text_encoder.tokenize(template.replace('{}', text))
                prompts.append(text_encoder.prompt(symbols))
                text_encoder.check_length(len(prompts[-1]), f'{template.replace("{}", text)!r}')
        return grow_trees(prompts)

    def forward(self, text_encoder: CLIPTextTower, vocabulary: nn.ModuleList,
                visual_BTC: Tensor | None = None) -> Tensor:
        """Text embeddings (1, S, C) of unit length."""
        embeddings = F.normalize(text_encoder(vocabulary), dim=-1)
        return F.normalize(embeddings.unflatten(1, (-1, len(self.templates))).mean(2), dim=-1)


class TextEmbeddings(nn.Module):
    """Text embeddings computed elsewhere; there is no text tower.

    Attributes:
        embeddings: (S, C) buffer, so that checkpoints carry it.

    Args:
        embed_dim: C.
        path: ``.npy`` or ``torch.save`` file with an (S, C) array in the order of the class names,
            read in :meth:`init_weights`; None if a checkpoint will bring the embeddings.
        texts: class names and synonyms.
        text_encoder: must be None.

    Raises:
        ValueError: if a text tower is given.
    """

    class_specific = True
    depends_on_image = False

    def __init__(self, *, embed_dim: int, texts: Sequence[str], path: str | None = None,
                 text_encoder: None = None) -> None:
        super().__init__()
        if text_encoder is not None:
            raise ValueError('prompt TextEmbeddings takes no text tower; set text_encoder=None')
        self.path = path
        self.embed_dim = embed_dim
        self.register_buffer('embeddings', torch.zeros(len(texts), embed_dim))

    def init_weights(self) -> None:
        """Read the file.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if it does not hold one finite row of ``embed_dim`` numbers for each text.
        """
        if self.path is None:
            return
        rows = read_tensors(self.path, 'file of text embeddings')
        if not isinstance(rows, Tensor) or rows.shape != self.embeddings.shape:
            got = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise ValueError(f'{self.path} holds {got}, but the class names and embed_dim need '
                             f'{tuple(self.embeddings.shape)}')
        if not rows.isfinite().all():
            raise ValueError(f'{self.path} holds numbers that are not finite')
        self.embeddings.copy_(rows.detach())

    def vocabulary(self, text_encoder: None, texts: Sequence[str]) -> nn.ModuleList:
        """No trees: the embeddings are given."""
        return nn.ModuleList()

    def forward(self, text_encoder: None, vocabulary: nn.ModuleList,
                visual_BTC: Tensor | None = None) -> Tensor:
        """Text embeddings (1, S, C), as given."""
        return self.embeddings[None]
