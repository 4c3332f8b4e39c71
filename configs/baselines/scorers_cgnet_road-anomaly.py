# Scorers that need no open data to train on, for a Cityscapes network, tested on RoadAnomaly21 at
# image resolution. No Cityscapes is needed: fits take the closed pixels of Fishyscapes Static,
# whose classes are not known (the predicted ones serve), and options are chosen on its anomalies.
# For another test set set ROAD_ANOMALY_TEST.
_base_ = [
    '../_base_/models/open_cgnet.py',
    '../_base_/datasets/road_anomaly.py',
    '../_base_/schedules/opengan_2k.py',
    '../_base_/default_runtime.py',
]
fitted = 'work_dirs/scorers_cgnet'
model = dict(
    segmentor=dict(checkpoint='{{$CGNET_WEIGHTS:weights/cgnet_cityscapes.pth}}'),
    scorers=dict(
        msp=dict(type='MSP'),
        entropy=dict(type='Entropy'),
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
scorer_fitting = dict(
    grids=dict(
        mspc=dict(temperature=[1.0, 5.0, 100.0, 1000.0], epsilon=[0.0, 0.1, 1.0]),  # grey levels
        mcdrop=dict(rate=[0.5], uncertainty=['entropy', 'mutual_information']),
    )
)  # each costs 5 s an image on a CPU core
val_evaluator = dict(closed=False)  # the classes of closed pixels are not known
test_evaluator = dict(closed=False)
