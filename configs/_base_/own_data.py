# As own_model.py, on data of one's own below data/mine: images/{train,open_val,val}, labels of the
# same names in labels/, and ids.yaml, which says what each id of a label means. See "A dataset of
# your own" in docs/datasets.md.
_base_ = './own_model.py'
mine = dict(
    type='OpenSetFolder',
    data_root='data/mine',
    img_suffix='.jpg',
    seg_map_suffix='.png',
    ids='data/mine/ids.yaml',
    pipeline={{_base_.pipeline}},
)
train_images = dict(mine, data_prefix=dict(img_path='images/train', seg_map_path='labels/train'))
open_val_images = dict(
    mine, data_prefix=dict(img_path='images/open_val', seg_map_path='labels/open_val')
)
test_images = dict(mine, data_prefix=dict(img_path='images/val', seg_map_path='labels/val'))
train_dataloader = dict(
    dataset=dict(
        root='work_dirs/feature_banks/own_data',
        closed=dict(_delete_=True, **train_images),
        open=dict(_delete_=True, **train_images),
    )
)
val_dataloader = dict(dataset=dict(_delete_=True, **open_val_images))
test_dataloader = dict(dataset=dict(_delete_=True, **test_images))
