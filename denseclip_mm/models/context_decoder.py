"""DenseCLIP's context decoder: text embeddings look at the image (Rao et al. 2022, section 3.3).

Shapes: B images, K texts, N visual tokens, C embedding channels, D decoder width.
"""

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F


class Attention(nn.Module):
    """Multi-head attention with bias-free q, k, v projections, as published.

    Args:
        width: D.
        num_heads: heads.
        dropout: of the output.
    """

    def __init__(self, *, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query_BKD: Tensor, memory_BND: Tensor) -> Tensor:
        """Attend from (B, K, D) to (B, N, D); returns (B, K, D)."""
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (
            self.q_proj(query_BKD), self.k_proj(memory_BND), self.v_proj(memory_BND)))
        x = F.scaled_dot_product_attention(q, k, v)
        return self.dropout(self.proj(x.transpose(1, 2).flatten(2)))


class ContextDecoderLayer(nn.Module):
    """Pre-norm layer: self-attention, cross-attention on the memory as it is, 4x GELU MLP.

    Args:
        width: D.
        num_heads: heads.
        dropout: of both attentions and of the MLP.
    """

    def __init__(self, *, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = Attention(width=width, num_heads=num_heads, dropout=dropout)
        self.cross_attn = Attention(width=width, num_heads=num_heads, dropout=dropout)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout),
                                 nn.Linear(4 * width, width))

    def forward(self, x_BKD: Tensor, memory_BND: Tensor) -> Tensor:
        """Refine (B, K, D) by (B, N, D)."""
        query = self.norm1(x_BKD)
        x_BKD = x_BKD + self.self_attn(query, query)
        x_BKD = x_BKD + self.cross_attn(self.norm2(x_BKD), memory_BND)
        return x_BKD + self.dropout(self.mlp(self.norm3(x_BKD)))


class ContextDecoder(BaseModule):
    """What the image has to say about each class, in the embedding space (section 3.3).

    Args:
        embed_dim: C, channels of the visual tokens.
        width: D.
        num_heads: attention heads.
        num_layers: layers.
        dropout: probability within the layers.
        text_dim: channels of the text, if they are not C.

    Raises:
        ValueError: if ``num_heads`` does not divide ``width``.

    Examples:
        >>> import torch
        >>> decoder = ContextDecoder(embed_dim=64, width=32)
        >>> decoder(torch.rand(2, 150, 64), torch.rand(2, 1 + 16 * 16, 64)).shape
        torch.Size([2, 150, 64])
    """

    def __init__(self, *, embed_dim: int, width: int = 256, num_heads: int = 4,
                 num_layers: int = 3, dropout: float = 0.1, text_dim: int | None = None) -> None:
        super().__init__(init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, bias=0))
        if width % num_heads:
            raise ValueError(f'width={width} is no multiple of num_heads={num_heads}')
        self.memory_proj = nn.Sequential(nn.LayerNorm(embed_dim), nn.Linear(embed_dim, width),
                                         nn.LayerNorm(width))
        text_dim = text_dim or embed_dim
        self.text_proj = nn.Sequential(nn.LayerNorm(text_dim), nn.Linear(text_dim, width))
        self.layers = nn.ModuleList(
            ContextDecoderLayer(width=width, num_heads=num_heads, dropout=dropout)
            for _ in range(num_layers))
        self.out_proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, text_dim))

    def forward(self, text_BKC: Tensor, visual_BNC: Tensor) -> Tensor:
        """Decode text embeddings (B, K, C) against visual tokens (B, N, C); returns (B, K, C)."""
        memory = self.memory_proj(visual_BNC)
        x = self.text_proj(text_BKC)
        for layer in self.layers:
            x = layer(x, memory)
        return self.out_proj(x)
