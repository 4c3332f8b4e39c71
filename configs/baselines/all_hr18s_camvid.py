# Every scorer on CamVid: the methods that learn no network, and those that train one on the
# features.
_base_ = './scorers_hr18s_camvid.py'
fitted = 'work_dirs/scorers_hr18s_camvid'
model = dict(
    scorers=dict(
        c2ae=dict(type='C2AE', checkpoint=f'{fitted}/c2ae.pth'),
        bigan_d=dict(type='BiGAN', kind='discriminator', checkpoint=f'{fitted}/bigan_d.pth'),
        bigan_r=dict(type='BiGAN', kind='reconstruction', checkpoint=f'{fitted}/bigan_r.pth'),
        kplus1=dict(type='KPlusOne', checkpoint=f'{fitted}/kplus1.pth'),
    )
)
