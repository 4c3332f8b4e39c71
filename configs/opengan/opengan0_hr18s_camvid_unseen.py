# OpenGAN-0 trains on no open pixel: the same run as opengan0_hr18s_camvid.py, for tables of all
# three.
_base_ = './opengan0_hr18s_camvid.py'
