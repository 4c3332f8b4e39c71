# OpenGAN on any model of MMSegmentation: its config file and its weights are for the leaf config, or --segmentor.
model = dict(
    type='OpenGANSegmentor',
    segmentor=dict(checkpoint=None),  # dict(config='my_segmentor.py', checkpoint='my_segmentor.pth')
    discriminator=dict(type='FeatureDiscriminator'),
    generator=dict(type='FeatureGenerator', out_act='auto'),  # 'relu' where the segmentor's features are never negative
    lambda_open=1.0, lambda_fake=0.2, reduction='term',  # as in opengan_fcn_hr48.py
    scorers=dict(msp=dict(type='MSP'), entropy=dict(type='Entropy')),
    resolution='feature', test_cfg=dict(mode='whole'))
