"""The command-line arguments that name a model and its images; the tools share them."""

import argparse

from mmengine.config import DictAction

from ..cli import one_checkpoint
from ..models.fusion import main_score
from .inferencer import OpenSetInferencer


def add_model_arguments(parser: argparse.ArgumentParser, inputs: str) -> None:
    """Add what :func:`build_inferencer` reads; ``inputs`` says what follows the model."""
    parser.add_argument(
        'paths',
        nargs='+',
        metavar='PATH',
        help='the model: CONFIG and CHECKPOINT, a checkpoint that training wrote, or a bundle '
        f'alone; of a plain MMSegmentation config, its weights{inputs}',
    )
    parser.add_argument(
        '--scorers',
        nargs='+',
        help="scores (default: %(default)s; None is all of the config): names of the config's, "
        'opengan, or scores that need no training: msp entropy energy maxlogit gen',
    )
    parser.add_argument(
        '--device', help="e.g. 'cpu' or 'cuda:0' (default: an accelerator where there is one)"
    )
    parser.add_argument(
        '--segmentor-checkpoint',
        help="the segmentor's weights, if no longer where training had them",
    )
    parser.add_argument('--font', help='font file for names whose letters the usual one lacks')
    parser.add_argument(
        '--cfg-options', nargs='+', action=DictAction, help='override config entries: key=value'
    )


def build_inferencer(
    parser: argparse.ArgumentParser, args: argparse.Namespace
) -> tuple[OpenSetInferencer, list[str]]:
    """The model of the arguments, and the paths behind it; ends the program at wrong ones."""
    configs = [path for path in args.paths if path.endswith('.py')]
    checkpoint = one_checkpoint(parser, [path for path in args.paths if path.endswith('.pth')])
    if len(configs) > 1 or checkpoint is None:
        parser.error(
            'the model: wanted a config (.py) and a checkpoint (.pth), or a checkpoint alone, '
            f'found {", ".join(args.paths)}'
        )
    models = [*configs, checkpoint]
    inferencer = OpenSetInferencer(
        *models,
        device=args.device,
        cfg_options=args.cfg_options,
        segmentor_checkpoint=args.segmentor_checkpoint,
        scorers=args.scorers,
        font=args.font,
    )
    return inferencer, [path for path in args.paths if path not in models]


def score_asked_for(args: argparse.Namespace, inferencer: OpenSetInferencer) -> str:
    """*The score* of the docs, of those of ``--scorers`` or else of all."""
    return main_score(args.scorers or inferencer.model.score_names)


def one_score(
    parser: argparse.ArgumentParser, args: argparse.Namespace, inferencer: OpenSetInferencer
) -> str:
    """The score of ``--scorers``, else the model's main one; ends the program at several."""
    if args.scorers is None:
        return inferencer.main
    if len(args.scorers) != 1:
        parser.error(f'--scorers: wanted one score, found {args.scorers}')
    return args.scorers[0]
