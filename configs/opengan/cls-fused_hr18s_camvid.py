# CLS on CamVid, fused with a free score: open validation picks the step by the fused score's mean
# over kinds.
_base_ = './opengan-fused_hr18s_camvid.py'
model = dict(generator=None)
