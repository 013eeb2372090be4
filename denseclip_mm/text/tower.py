"""CLIP's frozen text tower, run on token trees.

Everything that computes is open_clip's: embedding, transformer, final norm, projection, tokenizer.
Only the layout of the sequence is ours: the tree itself, where attention is causal; where it is not
(SigLIP, CLIPA, MobileCLIP), a token's state depends on all that the sequence holds, so each prompt
of the tree is a sequence of its own, padded to the tower's full length as the tower was trained.

Shapes: B images (1 if the prompt does not depend on the image), P prompts, L learned vectors,
T tokens of a tree, N positions of the tower, D width of the tower, C embedding channels.
"""

import logging
from collections.abc import Iterable
from typing import Any

from denseclip_mm.clip import clip_config, load_tower, own_weights, tokenizer_folder
from denseclip_mm.text.tokenizers import tokenizer_of
from denseclip_mm.text.tree import TokenTree

import torch
from open_clip.model import _build_text_tower
from torch import Tensor, nn
from torch.nn import functional as F


class CLIPTextTower(nn.Module):
    """The text half of an open_clip model: never trained, always in eval mode.

    Gradients pass through it to learned prompt vectors; its own parameters do not require any.

    Attributes:
        context_length: positions that have weights: the longest prompt, its two end tokens
            included. A published DenseCLIP checkpoint has fewer than the tower.

    Args:
        model: an open_clip model name, or an open_clip model config
            (:func:`denseclip_mm.clip.clip_config`).
        pretrained: an open_clip tag, a file or a folder of CLIP weights
            (:func:`denseclip_mm.clip.load_tower`), or None for random weights; a model of a folder
            or on the hub brings its own. Read in :meth:`init_weights`.
        tokenizer: where a tokenizer of Hugging Face is read from, once the first text is tokenized:
            a folder, or a file in one; by default the folder of the model, if it is in there, or
            the name that the model config has.

    Raises:
        ValueError: if the model is unknown, or its text tower is not open_clip's own transformer
            without a class token.

    Examples:
        >>> from denseclip_mm.text import grow_trees
        >>> tower = CLIPTextTower(model='DemoCLIP', pretrained='demo')
        >>> tower.init_weights()
        >>> prompts = [tower.prompt(tower.tokenize(text)) for text in ('a red star', 'a red ring')]
        >>> tower(grow_trees(prompts)).shape
        torch.Size([1, 2, 64])
    """

    def __init__(self, *, model: str | dict[str, Any], pretrained: str | None = None,
                 tokenizer: str | None = None) -> None:
        super().__init__()
        config = clip_config(model)
        text = config['text_cfg']
        _require_transformer(model, text)
        self.model = model
        self.pretrained = own_weights(model, pretrained)
        self.tower = _build_text_tower(config['embed_dim'], text, config.get('quick_gelu', False))
        if text.get('hf_tokenizer_name') and tokenizer is None:
            tokenizer = tokenizer_folder(model)
        self.tokenizer = tokenizer_of(text, tokenizer)
        pool = text.get('pool_type', 'argmax')  # where the embedding is read: a place, or the end
        self.read_at: int | None = {'first': 0, 'last': -1}.get(pool)
        self.is_padded = bool(text.get('no_causal_mask')) or self.read_at is not None
        self.context_length: int = self.tower.context_length
        self.register_state_dict_post_hook(_leave_out_missing_positions)
        self.embed_dim: int = config['embed_dim']
        self.width: int = self.tower.width
        self.requires_grad_(False)
        self.eval()

    @property
    def vocab_size(self) -> int:
        """Symbols from this number on stand for learned vectors."""
        return self.tower.vocab_size

    def init_weights(self) -> None:
        """Load the pretrained weights (errors: :func:`denseclip_mm.clip.load_tower`).

        Without any a warning says that the tower is random, which no training will change.
        """
        if self.pretrained is None:
            logging.getLogger(__name__).warning(
                'CLIPTextTower has pretrained=None: it is random and is never trained, so names '
                'mean nothing to it, unless a checkpoint brings its weights')
            return
        load_tower(self.tower, 'text', model=self.model, pretrained=self.pretrained)
        self.context_length = self.tower.context_length

    def train(self, mode: bool = True) -> 'CLIPTextTower':
        """Stay in eval mode, whatever the model around it does."""
        return super().train(False)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of a text, without start and end.

        Raises:
            ValueError: if the tokenizer has more tokens than the tower.
            ImportError, FileNotFoundError: if the tokenizer is one of Hugging Face, and
                transformers or its files are missing.
        """
        tokens = self.tokenizer.encode(text)
        self.check_vocab_size()
        return tokens

    def check_vocab_size(self) -> None:
        """Raise a ValueError if the tokenizer has more tokens than the tower."""
        if self.tokenizer.vocab_size > self.tower.vocab_size:
            raise ValueError(f'the text tower embeds {self.tower.vocab_size} tokens, but its '
                             f'tokenizer makes {self.tokenizer.vocab_size}; set vocab_size')

    def prompt(self, *parts: list[int]) -> list[int]:
        """Symbols of a prompt: start, the parts one after the other, end."""
        return [*self.tokenizer.start, *(symbol for part in parts for symbol in part),
                *self.tokenizer.end]

    def forward(self, trees: Iterable[TokenTree], learned: Tensor | None = None) -> Tensor:
        """Embed prompts.

        Args:
            trees: the prompts, as :func:`denseclip_mm.text.tree.grow_trees` lays them out.
            learned: (B, L, D) vectors that the symbols from ``vocab_size`` on stand for.

        Returns:
            (B, P, C) text embeddings, not normalised.

        Raises:
            ValueError: if a prompt has more tokens than the tower has positions.
        """
        return torch.cat([self._embed(tree, learned) for tree in trees], dim=1)

    def _embed(self, tree: TokenTree, learned: Tensor | None) -> Tensor:
        self.check_length(tree.length)
        tower = self.tower
        is_learned = tree.symbols >= tower.vocab_size
        x_BTD = tower.token_embedding(tree.symbols.masked_fill(is_learned, 0))[None]
        if learned is not None:
            vectors = learned[:, (tree.symbols - tower.vocab_size).clamp(min=0)]
            x_BTD = torch.where(is_learned[:, None], vectors, x_BTD)
        x_BPD = self._read_padded(x_BTD, tree) if self.is_padded else self._read_tree(x_BTD, tree)
        x_BPD = tower.ln_final(x_BPD)
        if isinstance(tower.text_projection, nn.Linear):
            return tower.text_projection(x_BPD)
        return x_BPD if tower.text_projection is None else x_BPD @ tower.text_projection

    def _read_tree(self, x_BTD: Tensor, tree: TokenTree) -> Tensor:
        """The last state of each prompt, where a token sees what is before it alone."""
        x_BTD = x_BTD + self.tower.positional_embedding[tree.depth]
        return self.tower.transformer(x_BTD, attn_mask=tree.mask)[:, tree.leaves]

    def _read_padded(self, x_BTD: Tensor, tree: TokenTree) -> Tensor:
        """The state of each prompt that open_clip reads, from prompts that are padded."""
        tower, count = self.tower, len(tree.paths)
        pad_D = tower.token_embedding.weight[self.tokenizer.pad]
        x_BTD = torch.cat([x_BTD, pad_D.expand(len(x_BTD), 1, -1)], dim=1)
        paths_PN = F.pad(tree.paths, (0, self.context_length - tree.length), value=-1)
        x_QND = x_BTD[:, paths_PN].flatten(0, 1) + tower.positional_embedding
        x_QND = tower.transformer(x_QND, attn_mask=tower.attn_mask)
        last_P = (tree.paths >= 0).sum(1) - 1
        at_Q = last_P.repeat(len(x_BTD)) if self.read_at is None else self.read_at
        return x_QND[torch.arange(len(x_QND), device=x_QND.device), at_Q].unflatten(0, (-1, count))

    def check_length(self, length: int, what: str = 'a prompt') -> None:
        """Refuse prompts of more tokens than there are positions.

        Raises:
            ValueError: says how many tokens there are and how many fit.
        """
        if length > self.context_length:
            cure = 'shorten the names or use fewer contexts'
            if self.context_length < self.tower.context_length:
                cure += (f'; this checkpoint carries only the first {self.context_length} of '
                         "CLIP's positions, convert it with --clip to get them all")
            raise ValueError(f'{what} has {length} tokens, but the text tower takes '
                             f'{self.context_length}; {cure}')

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str,
                              *args: Any) -> None:
        # Published DenseCLIP checkpoints carry the first positions only; no prompt reads the rest.
        key, own = prefix + 'tower.positional_embedding', self.tower.positional_embedding
        table = state_dict.get(key)
        if not self.is_padded and table is not None and (
                table.shape[1:] == own.shape[1:] and len(table) <= len(own)):
            self.context_length = len(table)
            state_dict[key] = F.pad(table, (0, 0, 0, len(own) - len(table)))
        super()._load_from_state_dict(state_dict, prefix, *args)


def _leave_out_missing_positions(tower: CLIPTextTower, state_dict: dict[str, Tensor], prefix: str,
                                 metadata: dict[str, Any]) -> None:
    key = prefix + 'tower.positional_embedding'
    state_dict[key] = state_dict[key][:tower.context_length]


def _require_transformer(model: str | dict[str, Any], text: dict[str, Any]) -> None:
    """Refuse text towers that are Hugging Face's, or pool otherwise than at a token."""
    reason = None
    if text.get('hf_model_name'):
        reason = f'is the Hugging Face model {text["hf_model_name"]!r}'
    elif text.get('embed_cls'):
        reason = 'appends a class token (CoCa)'
    elif text.get('tokenizer_mode'):
        reason = f'has a tokenizer with tokenizer_mode={text["tokenizer_mode"]!r}'
    elif text.get('pool_type', 'argmax') not in ('argmax', 'eos', 'first', 'last'):
        reason = f'reads its embedding by pool_type={text["pool_type"]!r}, not at a token'
    if reason:
        raise ValueError(
            f"the text tower of {model!r} {reason}; CLIPTextTower runs open_clip's own "
            'transformer. Without a text tower: compute the texts elsewhere, and give them by '
            "prompt=dict(type='TextEmbeddings', ...)")
