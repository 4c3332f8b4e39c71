# Free scores beside the trained ones of opengan-fused_cgnet_fs-static.py, on the same images.
_base_ = '../opengan/opengan-fused_cgnet_fs-static.py'
fitted = 'work_dirs/free_cgnet_fs-static'
model = dict(
    discriminator=None,
    generator=None,
    fuse=None,
    scorers=dict(
        energy=dict(type='Energy'),
        gen=dict(type='GEN'),
        # options by open validation
        react=dict(type='ReAct', checkpoint=f'{fitted}/react.pth'),
        # those of the fused score
        react9=dict(
            type='ReAct',
            quantile=0.9,
            per='channel',
            uncertainty='gen',
            checkpoint=f'{fitted}/react9.pth',
        ),
    ),
)
default_hooks = dict(checkpoint=dict(save_best='opengan/AUROC'))
