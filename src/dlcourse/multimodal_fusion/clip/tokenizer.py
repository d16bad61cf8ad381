"""A tokenizer whose tokens are words.

Chapter: ``121_multimodal_fusion/2a_clip``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["PAD", "START", "END", "WordTokenizer"]

PAD, START, END = 0, 1, 2  # padding, begin of a text, end of a text


class WordTokenizer:
    """Texts → (N, L) tokens: start, one token a word, end; padding up to the longest text.

    CLIP's own tokenizer cuts words into pieces (byte pairs), so that it knows every word. This one
    knows a fixed list and refuses others; case and commas are ignored.

    Args:
        words: the vocabulary. Tokens 0, 1 and 2 are padding, start and end; word k is token k + 3.
        context: most tokens that a text may have, start and end included.

    Raises ValueError: a word twice, or not a single word in lower case; a context below 3. When
    called: no texts, an empty text, an unknown word, a text longer than the context. TypeError:
    a single string.
    """

    def __init__(self, words: Sequence[str], context: int) -> None:
        if len(set(words)) < len(words):
            raise ValueError("a word is in the vocabulary twice")
        for word in words:
            if word.split() != [word] or word != word.lower():
                raise ValueError(f"not a single word in lower case: {word!r}")
        if context < 3:
            raise ValueError(f"a text needs start, a word and end: context >= 3, got {context}")
        self.words, self.context = tuple(words), context
        self.token = {word: k + 3 for k, word in enumerate(words)}

    def __len__(self) -> int:
        return len(self.words) + 3

    def __call__(self, texts: Sequence[str]) -> Tensor:
        if isinstance(texts, str):
            raise TypeError(f"give a list of texts, not one: [{texts!r}]")
        rows = [self._row(text) for text in texts]
        if not rows:
            raise ValueError("no texts were given")
        longest = max(map(len, rows))
        return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])

    def _row(self, text: str) -> list[int]:
        words = text.lower().replace(",", " ").replace(".", " ").split()
        if not words:
            raise ValueError(f"an empty caption describes nothing: {text!r}")
        if unknown := [word for word in words if word not in self.token]:
            raise ValueError(
                f"{text!r} has words that this tokenizer does not know: {', '.join(unknown)}. It "
                f"knows {', '.join(sorted(self.words))}"
            )
        if len(words) + 2 > self.context:
            raise ValueError(
                f"{text!r} has {len(words)} words; with start and end that is more than the "
                f"context of {self.context} tokens: shorten it"
            )
        return [START, *(self.token[word] for word in words), END]

    def decode(self, tokens: Tensor) -> list[str]:
        """(N, L) tokens → texts, without start, end and padding."""
        return [" ".join(self.words[t - 3] for t in row if t > END) for row in tokens.tolist()]
