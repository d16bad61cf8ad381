from .feature_engineering.lags import lag_features as lag_features
from .feature_engineering.one_hot import OneHot as OneHot
from .feature_engineering.pipeline import FeaturePipeline as FeaturePipeline
from .feature_engineering.point_in_time import point_in_time_join as point_in_time_join
from .feature_engineering.skew import ColumnSkew as ColumnSkew
from .feature_engineering.skew import SkewReport as SkewReport
from .feature_engineering.skew import train_serve_skew as train_serve_skew
from .feature_engineering.standardizer import Standardizer as Standardizer
