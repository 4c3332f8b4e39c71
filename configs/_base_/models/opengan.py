# OpenGAN on any model of MMSegmentation. Whose config and weights: the leaf config says it, or
# --segmentor.
model = dict(
    type='OpenGANSegmentor',
    segmentor=dict(
        checkpoint=None
    ),  # dict(config='my_segmentor.py', checkpoint='my_segmentor.pth')
    discriminator=dict(type='FeatureDiscriminator'),
    generator=dict(
        type='FeatureGenerator', out_act='auto'
    ),  # 'relu' where the segmentor's features are never negative
    lambda_open=1.0,  # lambda_o of Eq. 2
    lambda_fake=0.2,  # lambda_G of Eq. 2
    # each term averaged by itself, as Eq. 2 is written; 'batch' is the authors' notebook
    reduction='term',
    resolution='feature',
)  # the paper's: un-resized score maps against labels on the same grid
