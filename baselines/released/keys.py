"""The names of released checkpoints: {regular expression of a whole released name: our name}.

The first match counts. None leaves a tensor out: it repeats another one, or only the released training needs
it. `kinds` names the commits of the code, on whose networks the maps were counted.
"""

from collections.abc import Mapping

Keys = Mapping[str, str | None]

# ResNets of torchvision and timm.
RESNET: Keys = {r"((conv1|bn1|layer\d)\..+)": r"model.\1", r"fc\.(weight|bias)": None}

# CAM, AMN and IRN register their ResNet-50 and their new layers several times.
REPEATED: Keys = {r"(stage\d|backbone|newly_added|edge_layers|dp_layers)\..+": None}
RESNET_OF_IRN: Keys = {r"resnet50\.(.+)": r"encoder.\1", **REPEATED}
CAM: Keys = {r"classifier\.weight": "head.weight", **RESNET_OF_IRN}
AMN: Keys = {
    r"label_enc\.(weight|bias)": r"head.condition.\1",
    r"classifier\.1\.c(\d)\.(.+)": r"head.branches.\1.\2",
    **RESNET_OF_IRN,
}
FBR_AMN: Keys = {
    r"proj_fg\.weight": "fbr.heads.foreground",
    r"proj_bg\.weight": "fbr.heads.background",
    **AMN,
}
IRN: Keys = {
    **{rf"fc_edge{n}\.([01]\..+)": rf"boundary_branch.projections.{n - 1}.\1" for n in range(1, 6)},
    r"fc_edge6\.(.+)": r"boundary_branch.classifier.\1",
    **{rf"fc_dp{n}\.([01]\..+)": rf"displacement_branch.projections.{n - 1}.\1" for n in range(1, 6)},
    r"fc_dp6\.([01]\..+)": r"displacement_branch.merge_deep.\1",
    r"fc_dp7\.([01]\..+)": r"displacement_branch.merge.\1",
    r"fc_dp7\.3\.(.+)": r"displacement_branch.regressor.\1",
    r"mean_shift\.running_mean": "displacement_branch.mean_shift.mean",
    r"fc_dp7\.4\.running_mean|path_indices\d+|disp_target": None,
    **RESNET_OF_IRN,
}

# On ResNet-38, of which `rename_released` of its encoder has already renamed the layers.
RESNET38: Keys = {r"((stem|stages|tail)\..+)": r"encoder.\1"}
EPS: Keys = {r"fc8\.weight": "head.classifier.weight", **RESNET38}
SEAM: Keys = {
    r"f8_3\.weight": "head.correlation.levels.0.weight",
    r"f8_4\.weight": "head.correlation.levels.1.weight",
    r"f9\.weight": "head.correlation.joint.weight",
    **EPS,
}
PPC_SEAM: Keys = {r"fc_proj\.weight": "head.projection.weight", **SEAM}
PPC_EPS: Keys = {r"proj_fc\.weight": "head.projection.weight", **SEAM}
FBR_PPC: Keys = {
    r"proj_fg\.weight": "head.projection.weight",  # and fbr.heads.foreground, which is the same tensor
    r"proj_bg\.weight": "fbr.heads.background",
    r"bg_bn\.(.+)": r"fbr.classifier.norm.\1",
    r"bg_classifier\.weight": "fbr.classifier.weight",
    **SEAM,
}
AFFINITY: Keys = {
    r"f8_3\.weight": "head.levels.0.weight",
    r"f8_4\.weight": "head.levels.1.weight",
    r"f8_5\.weight": "head.levels.2.weight",
    r"f9\.weight": "head.joint.weight",
    **RESNET38,
}

# BAS. The code of the CVPR paper keeps copies of its last layers for ILSVRC.
COPIES: Keys = {r".*_copy(_5_\d)?\..+|erase_branch\..+|.*\.?total_(ops|params)": None}
GENERATOR: Keys = {**COPIES, r"classifier_loc\.0\.(.+)": r"head.generator.\1"}
BAS_VOC: Keys = {
    **GENERATOR,
    r"classifier_cls\.weight": "head.classifier.weight",
    r"((conv1|bn1|layer\d)\..+)": r"encoder.\1",
}
BAS_WSOL: Keys = {**GENERATOR, r"classifier(_cls)?\.(\d\..+)": r"head.classifier.\2"}
BAS_RESNET50: Keys = {**BAS_WSOL, r"((conv1|bn1|layer\d)\..+)": r"encoder.\1"}
BAS_MOBILENET: Keys = {**BAS_WSOL, r"(model\.\d+\..+)": r"encoder.\1"}
BAS_INCEPTION: Keys = {**BAS_WSOL, r"((Conv2d|Mixed)_.+)": r"encoder.\1"}
VGG16_LAYERS = (
    *("1_1", "1_2", "pool", "2_1", "2_2", "pool", "3_1", "3_2", "3_3", "pool"),
    *("4_1", "4_2", "4_3", "pool", "5_1", "5_2", "5_3"),
)
BAS_VGG16: Keys = {
    **BAS_WSOL,
    # torchvision's index: a convolution and its ReLU take two places, a pooling one.
    **{
        rf"conv{layer}\.(.+)": rf"encoder.features.{2 * place - VGG16_LAYERS[:place].count('pool')}.\1"
        for place, layer in enumerate(VGG16_LAYERS)
        if layer != "pool"
    },
}

# DeepLab-v2 of deeplab-pytorch, the network that it starts from, and PPC's DeepLab.
DEEPLAB: Keys = {r"base\.aspp\.c(\d)\.(.+)": r"head.\1.\2", r"base\.(layer\d\..+)": r"encoder.\1"}
DEEPLAB_PPC: Keys = {
    **{rf"aspp\.branch{n}\.(.+)": rf"head.branches.{n - 1}.\1" for n in range(1, 5)},
    r"aspp\.branch5_conv\.(.+)": r"head.pooled.0.\1",
    r"aspp\.branch5_bn\.(.+)": r"head.pooled.1.\1",
    r"aspp\.conv_cat\.(.+)": r"head.joint.\1",
    r"cls_conv\.(.+)": r"head.classifier.\1",
    r"backbone\.(.+)": r"encoder.model.\1",
}
DEEPLAB_INIT: Keys = {r"fc\.(weight|bias)": None, r"(layer\d\..+)": r"\1"}
