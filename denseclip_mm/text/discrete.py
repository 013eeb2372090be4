"""Contexts that are words.

Shapes: S texts, N contexts, V tokens of the vocabulary, D width of the text tower, C embedding
channels.
"""

from collections.abc import Sequence
from functools import cache

from denseclip_mm.text.contexts import LearnedContext
from denseclip_mm.text.tokenizers import CLIPTokenizer
from denseclip_mm.text.tower import CLIPTextTower

import torch
from torch import Tensor
from torch.nn import functional as F


class DiscreteContext(LearnedContext):
    """Contexts that are words: what is learned can be read, and typed as a template.

    Wen et al. 2023 ("Hard Prompts Made Easy", section 3.1, Algorithm 1): the tower is given the
    token embeddings that are nearest (by cosine) to the contexts, and their gradient goes straight
    through to the contexts themselves, which move until another token is nearest.

    Attributes:
        contexts: (N, D), or (S, N, D) class-specific: what is learned.

    Args:
        num_context: N; by default 8, or the number of tokens of ``init_words``.
        init_words: words that the contexts start from; None for words drawn at random.
        whole_words: choose among tokens that are a word, a number or a mark of their own, so that
            the prompt can be typed. False lets in parts of words and letters beyond ASCII; the
            start and the end of a text are never chosen.
        class_specific, class_position, full_stop, text_encoder, texts: see
            :class:`LearnedContext`.

    Raises:
        ValueError: see :class:`LearnedContext`; or if ``init_words`` are not among the tokens to
            choose from, or the tower's tokenizer is not CLIP's own.

    Examples:
        >>> tower = CLIPTextTower(model='DemoCLIP', pretrained='demo')
        >>> tower.init_weights()
        >>> texts = ['red star', 'snow']
        >>> prompt = DiscreteContext(text_encoder=tower, texts=texts, init_words='a photo of a')
        >>> prompt.start_from_words(tower)
        >>> prompt.templates(tower)
        ['a photo of a {}']
    """

    is_choice: Tensor

    def __init__(self, *, text_encoder: CLIPTextTower, texts: Sequence[str],
                 num_context: int | None = None, class_specific: bool = False,
                 class_position: str = 'end', init_words: str | None = None,
                 full_stop: bool = False, whole_words: bool = True) -> None:
        super().__init__(text_encoder=text_encoder, texts=texts, num_context=num_context,
                         class_specific=class_specific, class_position=class_position,
                         init_words=init_words, full_stop=full_stop)
        if not isinstance(text_encoder.tokenizer, CLIPTokenizer):
            raise ValueError("DiscreteContext chooses among CLIP's own tokens, and the text tower "
                             f'of {text_encoder.model!r} has others; use LearnedContext')
        text_encoder.check_vocab_size()
        choices = set(_choices(text_encoder.tokenizer, whole_words))
        is_choice = torch.zeros(text_encoder.vocab_size, dtype=torch.bool)
        is_choice[list(choices)] = True
        self.register_buffer('is_choice', is_choice, persistent=False)
        wrong = [token for token in self.words or [] if token not in choices]
        if wrong:
            raise ValueError(f'init_words={init_words!r} holds '
                             f'{text_encoder.tokenizer.readable(wrong[0])!r}, which is no whole '
                             'word to CLIP; use another, or set whole_words=False')

    def start_from_words(self, text_encoder: CLIPTextTower) -> None:
        """Set the contexts to embeddings of ``init_words``, or of words drawn at random."""
        super().start_from_words(text_encoder)
        if self.words is None:
            choices = self.is_choice.nonzero().flatten()
            drawn = choices[torch.randint(len(choices), self.contexts.shape[:-1])]
            with torch.no_grad():
                self.contexts.copy_(text_encoder.tower.token_embedding.weight[drawn])

    def tokens(self, text_encoder: CLIPTextTower) -> Tensor:
        """The nearest tokens, (N) or (S, N), by cosine, under autocast the same as without."""
        with torch.no_grad(), torch.autocast(self.contexts.device.type, enabled=False):
            table_VD = F.normalize(text_encoder.tower.token_embedding.weight.float(), dim=1)
            cosines = F.normalize(self.contexts.float(), dim=-1) @ table_VD.T
            return cosines.masked_fill(~self.is_choice, -torch.inf).argmax(-1)

    def vectors(self, text_encoder: CLIPTextTower) -> Tensor:
        """The embeddings of the nearest tokens, with the gradient of the contexts."""
        embeddings = text_encoder.tower.token_embedding.weight[self.tokens(text_encoder)].detach()
        return embeddings + (self.contexts - self.contexts.detach())  # adds zeros

    def templates(self, text_encoder: CLIPTextTower) -> list[str]:
        """The prompt as text, for :class:`TemplatePrompt`: one template, or one for each text.

        With ``whole_words`` typing a template gives the same tokens; parts of words are shown with
        a hyphen otherwise.
        """
        rows = self.tokens(text_encoder).view(-1, self.num_context).tolist()
        stop = ['.'] if self.full_stop else []
        templates = []
        for row in rows:
            words = [text_encoder.tokenizer.readable(token) for token in row]
            words.insert(self.num_before, '{}')
            templates.append(' '.join(words + stop))
        return templates


@cache
def _choices(tokenizer: CLIPTokenizer, whole_words: bool) -> frozenset[int]:
    """Tokens that may stand in a prompt."""
    tokens = set(range(tokenizer.vocab_size)) - set(tokenizer.all_special_ids)
    if not whole_words:
        return frozenset(tokens)
    words = {token: tokenizer.decoder[token].removesuffix('</w>') for token in tokens
             if tokenizer.decoder[token].endswith('</w>')}
    return frozenset(token for token, word in words.items()  # {} would be a place for the name
                     if word.isascii() and '{' not in word and tokenizer.encode(word) == [token])
