# Methods that train a network on the features, on CamVid. Fit first: tools/fit_scorers.py CONFIG
# --out FITTED, below.
_base_ = '../opengan/opengan_hr18s_camvid.py'
fitted = 'work_dirs/scorers_hr18s_camvid'
model = dict(
    discriminator=None,
    generator=None,
    scorers=dict(
        c2ae=dict(type='C2AE', checkpoint=f'{fitted}/c2ae.pth'),
        bigan_d=dict(type='BiGAN', kind='discriminator', checkpoint=f'{fitted}/bigan_d.pth'),
        bigan_r=dict(type='BiGAN', kind='reconstruction', checkpoint=f'{fitted}/bigan_r.pth'),
        kplus1=dict(type='KPlusOne', checkpoint=f'{fitted}/kplus1.pth'),
    ),
)
