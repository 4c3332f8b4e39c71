# The generator that weakens closed features, on CamVid without OtherMoving in training.
_base_ = './opengan_hr18s_camvid_unseen.py'
model = dict(generator=dict(_delete_=True, type='AttenuatingGenerator'), lambda_fake=0.5)
