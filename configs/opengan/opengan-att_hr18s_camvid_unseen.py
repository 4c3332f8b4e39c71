# The generator that weakens closed features, on CamVid without OtherMoving in training.
_base_ = './opengan_hr18s_camvid_unseen.py'
model = dict(generator=dict(_delete_=True, type='AttenuatingGenerator'), lambda_fake=0.5)
# At the usual 1e-4 G leaves the directions of real pixels. Slower is better:
# docs/research_log.md.
optim_wrapper = dict(generator=dict(optimizer=dict(lr=1e-5)))
