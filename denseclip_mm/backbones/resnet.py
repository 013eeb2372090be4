"""CLIP's ResNets as backbones."""

from collections.abc import Sequence
from math import prod
from typing import Any

from denseclip_mm.backbones.pool import DenseAttentionPool
from denseclip_mm.backbones.tower import CLIPTower, run

from torch import Tensor, nn


class CLIPResNet(CLIPTower):
    """CLIP's modified ResNet: RN50, RN101, RN50x4 and on (Radford et al. 2021, section 2.4).

    Four maps, at strides 4, 8, 16 and 32 unless ``strides`` says otherwise; the embeddings come
    from the attention pool, at the last map's stride.

    Args:
        strides: of the four stages. A stage of stride 1 keeps its weights and skips its pooling:
            a finer score map at the price of more cells.
        dense_embedding: ``'attended'``, ``'value'`` or ``'value-value'``, see
            :class:`denseclip_mm.backbones.pool.DenseAttentionPool`.
        positions: ``'interpolated'``, or ``'cropped'`` for a training on images of many sizes, of
            which ``image_size`` is the largest; see there.
        model, pretrained, image_size, frozen_stages, norm_eval, with_cp, with_embeddings: see
            :class:`denseclip_mm.backbones.tower.CLIPTower`.

    Raises:
        ValueError: if the model is unknown, is no ResNet, or has fewer stages than are frozen, or
            ``strides``, ``dense_embedding`` or ``positions`` is not one of the above.

    Examples:
        >>> import torch
        >>> backbone = CLIPResNet(model='DemoCLIP', image_size=128, strides=(1, 2, 1, 1))
        >>> *maps, (image, dense) = backbone(torch.rand(2, 3, 128, 128))
        >>> [tuple(each.shape[1:]) for each in maps]
        [(64, 32, 32), (128, 16, 16), (256, 16, 16), (512, 16, 16)]
        >>> image.shape, dense.shape
        (torch.Size([2, 64]), torch.Size([2, 64, 16, 16]))
    """

    def __init__(self, *, model: str | dict[str, Any], pretrained: str | None = None,
                 image_size: int | tuple[int, int] | None = None,
                 strides: Sequence[int] = (1, 2, 2, 2), dense_embedding: str = 'attended',
                 positions: str = 'interpolated', frozen_stages: int = -1,
                 norm_eval: bool = False, with_cp: bool = False,
                 with_embeddings: bool = True) -> None:
        super().__init__(model=model, pretrained=pretrained, image_size=image_size,
                         frozen_stages=frozen_stages, norm_eval=norm_eval, with_cp=with_cp,
                         with_embeddings=with_embeddings)
        self.tower = self.build_tower('ResNet', image_size=32)
        if len(strides) != 4 or strides[0] != 1 or not {*strides} <= {1, 2}:
            raise ValueError(f'strides={tuple(strides)}: the first stage has stride 1, the other '
                             'three 1 or 2')
        layers = self.tower.layer2, self.tower.layer3, self.tower.layer4
        for layer, stride in zip(layers, strides[1:], strict=True):
            if stride == 1:
                layer[0].avgpool, layer[0].downsample[0] = nn.Identity(), nn.Identity()
        stride = 4 * prod(strides)
        pool = self.tower.attnpool
        self.tower.attnpool = None
        if with_embeddings:
            self.tower.attnpool = DenseAttentionPool(
                in_channels=pool.c_proj.in_features, embed_dim=self.embed_dim,
                num_heads=pool.num_heads, dense_embedding=dense_embedding, positions=positions,
                grid=(self.image_size[0] // stride, self.image_size[1] // stride))
        self.freeze()

    def init_weights(self) -> None:
        """Load the pretrained weights, if any (errors: :func:`denseclip_mm.clip.load_tower`)."""
        if self.with_embeddings:
            self.load_pretrained(self.tower.attnpool.grid)
        else:
            self.load_pretrained(None, unused=('attnpool.', ))

    def stages(self) -> list[list[nn.Module | nn.Parameter]]:
        """The three convolutions of the stem; layer1 to layer4; the attention pool."""
        tower = self.tower
        stem = [tower.conv1, tower.bn1, tower.conv2, tower.bn2, tower.conv3, tower.bn3]
        pool = [[tower.attnpool]] if self.with_embeddings else []
        return [stem, [tower.layer1], [tower.layer2], [tower.layer3], [tower.layer4], *pool]

    def forward(self, x: Tensor) -> tuple[Tensor | tuple[Tensor, Tensor], ...]:
        """Feature maps of an image batch (B, 3, H, W), and the embedding pair."""
        maps = []
        x = self.tower.stem(x)
        for layer in (self.tower.layer1, self.tower.layer2, self.tower.layer3, self.tower.layer4):
            for block in layer:
                x = run(block, x, self.with_cp)
            maps.append(x)
        return (*maps, self.tower.attnpool(x)) if self.with_embeddings else tuple(maps)
