# The paper's Table 5: HRNetV2-W48, Cityscapes, the methods that are no OpenGAN. Together with them:
#     tools/benchmark.py 'configs/opengan/{}_hr48_cityscapes.py' --scorers
# configs/baselines/all_hr48_cityscapes.py
#         --resolutions feature --seeds 0
#         --methods msp entropy openmax c2ae mspc mcdrop gdm gmm kplus1 opengan0 cls opengan
_base_ = '../opengan/opengan_hr48_cityscapes.py'
fitted = 'work_dirs/scorers_hr48_cityscapes'
model = dict(
    discriminator=None,
    generator=None,
    scorers=dict(
        maxlogit=dict(type='MaxLogit'),
        energy=dict(type='Energy'),
        sml=dict(type='StandardizedMaxLogit', checkpoint=f'{fitted}/sml.pth'),
        mspc=dict(type='MSPc', checkpoint=f'{fitted}/mspc.pth'),
        mcdrop=dict(type='MCDropout', checkpoint=f'{fitted}/mcdrop.pth'),
        openmax=dict(type='OpenMax', checkpoint=f'{fitted}/openmax.pth'),
        gdm=dict(type='GDM', checkpoint=f'{fitted}/gdm.pth'),
        gmm=dict(type='GMM', checkpoint=f'{fitted}/gmm.pth'),
        centroid=dict(type='ClassCentroid', checkpoint=f'{fitted}/centroid.pth'),
        nn=dict(type='NearestNeighbour', checkpoint=f'{fitted}/nn.pth'),
        c2ae=dict(type='C2AE', checkpoint=f'{fitted}/c2ae.pth'),
        bigan_d=dict(type='BiGAN', kind='discriminator', checkpoint=f'{fitted}/bigan_d.pth'),
        bigan_r=dict(type='BiGAN', kind='reconstruction', checkpoint=f'{fitted}/bigan_r.pth'),
        kplus1=dict(type='KPlusOne', checkpoint=f'{fitted}/kplus1.pth'),
    ),
)
# AUROC of Table 5 (OpenGAN-0-pix: Figure 6; OpenGAN-pix: Table 6), printed beside ours. The paper's
# (K+1) is a whole network, for which see kplus1_train_hr48_cityscapes.py; ours here is a classifier
# on the closed one's features.
paper_auroc = dict(
    msp=0.721,
    entropy=0.697,
    openmax=0.751,
    c2ae=0.722,
    mspc=0.755,
    mcdrop=0.767,
    gdm=0.743,
    gmm=0.765,
    kplus1=0.755,
    opengan0=0.709,
    cls=0.861,
    opengan=0.885,
    **{'opengan0-pix': 0.549, 'opengan-pix': 0.746},
)
