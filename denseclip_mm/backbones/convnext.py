"""open_clip's ConvNeXt towers (timm) as backbones."""

from typing import Any

from denseclip_mm.backbones.tower import CLIPTower, run

from torch import Tensor, nn


class CLIPConvNeXt(CLIPTower):
    """A ConvNeXt trained as CLIP's image tower, such as ``convnext_base_w``.

    Four maps at strides 4 to 32. Its pooling is a mean, so the head (norm, projection) applied to
    every cell gives the dense embedding, and applied to the mean the global one. There is no
    position table: any input size is the same to it.

    Args:
        model, pretrained, image_size, frozen_stages, norm_eval, with_cp, with_embeddings: see
            :class:`denseclip_mm.backbones.tower.CLIPTower`.

    Raises:
        ValueError: if the model is unknown, or its tower is no ConvNeXt with a mean-pooling head.
    """

    def __init__(self, *, model: str | dict[str, Any], pretrained: str | None = None,
                 image_size: int | tuple[int, int] | None = None, frozen_stages: int = -1,
                 norm_eval: bool = False, with_cp: bool = False,
                 with_embeddings: bool = True) -> None:
        super().__init__(model=model, pretrained=pretrained, image_size=image_size,
                         frozen_stages=frozen_stages, norm_eval=norm_eval, with_cp=with_cp,
                         with_embeddings=with_embeddings)
        self.tower = self.build_tower('timm', timm_model_pretrained=False)
        trunk = self.tower.trunk
        if type(trunk).__name__ != 'ConvNeXt' or not hasattr(trunk.head, 'norm'):
            raise ValueError(f'the timm tower of {model!r} is a {type(trunk).__name__}; '
                             'CLIPConvNeXt takes ConvNeXt towers with a pooling head')
        vision = self.config['vision_cfg']
        pool, proj = vision.get('timm_pool', 'avg'), vision.get('timm_proj', 'linear')
        if pool not in ('', 'avg') or proj not in ('linear', 'mlp'):
            raise ValueError(f'the tower of {model!r} has timm_pool={pool!r}, timm_proj={proj!r}; '
                             "CLIPConvNeXt takes those that pool by '' or 'avg' and project by "
                             "'linear' or 'mlp'")
        if not with_embeddings:
            trunk.head, self.tower.head = nn.Identity(), nn.Identity()
        self.freeze()

    def init_weights(self) -> None:
        """Load the pretrained weights, if any (errors: :func:`denseclip_mm.clip.load_tower`)."""
        self.load_pretrained(None, () if self.with_embeddings else ('trunk.head.', 'head.'))

    def stages(self) -> list[list[nn.Module | nn.Parameter]]:
        """The patch stem; the four stages; the head that projects."""
        trunk = self.tower.trunk
        head = [[trunk.head, self.tower.head]] if self.with_embeddings else []
        return [[trunk.stem], *([stage] for stage in trunk.stages), *head]

    def forward(self, x: Tensor) -> tuple[Tensor | tuple[Tensor, Tensor], ...]:
        """Feature maps of an image batch (B, 3, H, W), and the embedding pair."""
        trunk, head = self.tower.trunk, self.tower.head
        maps = []
        x = trunk.stem(x)
        for stage in trunk.stages:
            x = stage.downsample(x)
            for block in stage.blocks:
                x = run(block, x, self.with_cp)
            maps.append(x)
        if not self.with_embeddings:
            return tuple(maps)
        pooled = head(trunk.head.norm(x.mean((2, 3), keepdim=True)).flatten(1))
        cells = head(trunk.head.norm(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return (*maps, (pooled, cells))
