# OpenGAN on CamVid with an open kind that training never sees: OtherMoving, the largest open class
# of test. Its pixels are void in training; validation and test keep them.
_base_ = './opengan_hr18s_camvid.py'
feature_bank = 'work_dirs/feature_banks/camvid_without_othermoving'
train_dataloader = dict(dataset=dict(root=feature_bank, open=dict(ignore_open=('OtherMoving',))))
