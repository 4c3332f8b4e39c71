"""Recognition counts of whole maps, in a layout of their own."""

from mmseg_opengan.contracts import MAX_OPEN_CLASSES
from mmseg_opengan.functional.recognition import RecognitionCounts, outcomes
from mmseg_opengan.functional.score_counts import checked
from mmseg_opengan.functional.score_layout import ScoreLayout


def count(scores, predicted, truth, open_map, *, num_classes, layout=None, thresholds=()):
    """``RecognitionCounts`` of pixels: the maps of one shape, on one device."""
    flat, labels = checked(scores, open_map, MAX_OPEN_CLASSES, scores.device)
    layout = layout or ScoreLayout.of(flat, labels)
    counts = RecognitionCounts(
        num_classes, layout, thresholds=list(thresholds), device=scores.device
    )
    found = outcomes(predicted, truth, open_map, num_classes=num_classes, device=scores.device)
    counts.add(layout.bins(flat), scores, found)
    return counts
