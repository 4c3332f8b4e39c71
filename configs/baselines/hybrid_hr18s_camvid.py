# Free scores and hybrids on CamVid: a free score that a trained D raises.
# D is that of OPENGAN_CHECKPOINT. Fit first: tools/fit_scorers.py CONFIG --out FITTED.
_base_ = '../opengan/opengan_hr18s_camvid.py'
fitted = '{{$HYBRID_FITTED:work_dirs/hybrid_hr18s_camvid}}'
trained = dict(
    type='DiscriminatorScorer',
    discriminator=dict(type='FeatureDiscriminator'),
    checkpoint='{{$OPENGAN_CHECKPOINT:work_dirs/opengan_hr18s_camvid/best.pth}}',
)
model = dict(
    discriminator=None,
    generator=None,
    scorers=dict(
        energy=dict(type='Energy'),
        gen=dict(type='GEN'),
        react=dict(type='ReAct', checkpoint=f'{fitted}/react.pth'),
        trained=trained,
        hybrid_gen=dict(
            type='Hybrid',
            trained=trained,
            free=dict(type='GEN'),
            weight=0.5,
            checkpoint=f'{fitted}/hybrid_gen.pth',
        ),
        hybrid=dict(type='Hybrid', trained=trained, checkpoint=f'{fitted}/hybrid.pth'),
    ),
)
# Open validation chooses ReAct's options and the hybrid's weight and free score by the mean over
# kinds: most of its open pixels are of one kind.
scorer_fitting = dict(choose_by='AUROC_kinds')
