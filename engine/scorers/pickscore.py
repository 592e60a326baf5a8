"""PickScore as a scorer: a CLIP ViT-H that was trained on which of two images people picked (arXiv 2305.01569).

The score is the model's own logit, exp(logit_scale) times the cosine, so that of two images of one prompt the first is
picked with the probability sigmoid(first - second). The published folder has its tokenizer and processor.
"""

from transformers import CLIPModel

from .clip import ClipScorer


class PickScoreScorer(ClipScorer):
    """A loaded PickScore with its tokenizer; scores are logits."""

    name = "pickscore"

    @staticmethod
    def scale_of(model: CLIPModel) -> float:
        return float(model.logit_scale.detach().float().exp())
