"""Prompts whose contexts depend on the image: CoCoOp, and DenseCLIP's pre-model prompting.

Their text goes through the text tower once per image, on the same token tree as every prompt: B
times the tree's tokens (ADE20K with 8 contexts: 342), never B x 150 x 77.

Shapes: B images, S texts, N contexts, T visual tokens (the global embedding first), D width of the
text tower, C embedding channels.
"""

from collections.abc import Sequence

from denseclip_mm.models.context_decoder import ContextDecoder
from denseclip_mm.text import CLIPTextTower, ContextPrompt, LearnedContext

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConditionalContext(LearnedContext):
    """Learned contexts, all shifted by what a small network makes of the image.

    CoCoOp (Zhou et al. 2022, "Conditional Prompt Learning", section 3.2): the meta-net, two linear
    layers with a bottleneck of C / 16, takes the global embedding at unit length; its output is
    added to every context.

    Args:
        num_context, class_position, init_words, full_stop, std, text_encoder, texts: see
            :class:`LearnedContext`.

    Examples:
        >>> tower = CLIPTextTower(model='DemoCLIP')
        >>> texts = ['red star', 'snow']
        >>> prompt = ConditionalContext(text_encoder=tower, texts=texts, init_words='a photo of a')
        >>> prompt(tower, prompt.lay_out(tower, texts), torch.rand(3, 1 + 16 * 16, 64)).shape
        torch.Size([3, 2, 64])
    """

    depends_on_image = True

    def __init__(self, *, text_encoder: CLIPTextTower, texts: Sequence[str],
                 num_context: int | None = None, class_position: str = 'end',
                 init_words: str | None = None, full_stop: bool = False,
                 std: float = 1.0) -> None:
        super().__init__(text_encoder=text_encoder, texts=texts, num_context=num_context,
                         class_position=class_position, init_words=init_words,
                         full_stop=full_stop, std=std)
        bottleneck = max(1, text_encoder.embed_dim // 16)
        self.meta_net = nn.Sequential(
            nn.Linear(text_encoder.embed_dim, bottleneck), nn.ReLU(),
            nn.Linear(bottleneck, text_encoder.width))

    def forward(self, text_encoder: CLIPTextTower, trees: nn.ModuleList,
                visual_BTC: Tensor) -> Tensor:
        """Text embeddings (B, S, C), not normalised, for visual tokens (B, T, C)."""
        shift_BD = self.meta_net(F.normalize(visual_BTC[:, 0], dim=1))
        return text_encoder(trees, self.contexts + shift_BD[:, None])


class VisualContext(ContextPrompt):
    """Contexts that learned queries read from the image.

    DenseCLIP's pre-model prompting (Rao et al. 2022, section 3.3): the queries attend to the
    visual tokens in a transformer decoder, and its outputs are the contexts.

    Attributes:
        queries: (N, D).

    Args:
        num_context: N.
        class_position, full_stop, text_encoder, texts: see :class:`ContextPrompt`.
        width, num_heads, num_layers, dropout: of the decoder, a :class:`ContextDecoder`.

    Examples:
        >>> tower = CLIPTextTower(model='DemoCLIP')
        >>> prompt = VisualContext(text_encoder=tower, texts=['red star', 'snow'], num_context=4)
        >>> trees = prompt.lay_out(tower, ['red star', 'snow'])
        >>> prompt(tower, trees, torch.rand(3, 1 + 16 * 16, 64)).shape
        torch.Size([3, 2, 64])
    """

    depends_on_image = True

    def __init__(self, *, text_encoder: CLIPTextTower, texts: Sequence[str], num_context: int = 8,
                 class_position: str = 'end', full_stop: bool = False, width: int = 256,
                 num_heads: int = 4, num_layers: int = 3, dropout: float = 0.1) -> None:
        super().__init__(text_encoder=text_encoder, texts=texts, num_context=num_context,
                         class_specific=False, class_position=class_position, full_stop=full_stop)
        self.queries = nn.Parameter(torch.empty(num_context, text_encoder.width))
        nn.init.trunc_normal_(self.queries)
        self.decoder = ContextDecoder(
            embed_dim=text_encoder.embed_dim, text_dim=text_encoder.width, width=width,
            num_heads=num_heads, num_layers=num_layers, dropout=dropout)

    def forward(self, text_encoder: CLIPTextTower, trees: nn.ModuleList,
                visual_BTC: Tensor) -> Tensor:
        """Text embeddings (B, S, C), not normalised, for visual tokens (B, T, C)."""
        queries_BND = self.queries.expand(visual_BTC.shape[0], -1, -1)
        return text_encoder(trees, self.decoder(queries_BND, visual_BTC))
