# Every method that learns no network, on CamVid. Fit first: tools/fit_scorers.py CONFIG --out
# FITTED, the folder below.
_base_ = '../opengan/opengan_hr18s_camvid.py'
fitted = 'work_dirs/scorers_hr18s_camvid'
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
    ),
)
