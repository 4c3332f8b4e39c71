# D and G on images (paper section 6.2, our reading: contrib/pixel_networks.py); HRNetV2-W18-Small
# gives the closed map.
_base_ = './opengan_fcn_hr18s.py'
model = dict(
    type='PixelOpenGANSegmentor',
    discriminator=dict(_delete_=True, type='PatchDiscriminator'),
    generator=dict(_delete_=True, type='PatchGenerator'),
)
