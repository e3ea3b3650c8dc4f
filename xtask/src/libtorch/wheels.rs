//! The wheels that a libtorch is made of, by file name and SHA-256.
//!
//! All wheels of one release and platform hold the same libraries, whatever their Python.

/// What a libtorch is fetched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavor {
    /// CPUs alone.
    Cpu,
    /// NVIDIA's GPUs, with NCCL and the headers that its users are compiled with.
    Cuda,
    /// CPUs alone, in a newer release, which training is tried against as well.
    Newer,
}

impl Flavor {
    /// How its folder and version are called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu | Self::Newer => "cpu",
            Self::Cuda => "cu130",
        }
    }

    /// The release: that which the workspace's `tch` asks for, but for the newer one.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::Cpu | Self::Cuda => "2.11.0",
            Self::Newer => "2.13.0",
        }
    }

    /// The wheels; none where the platform has none.
    pub(super) fn wheels(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let (torch, more): (&[_], &[_]) = match self {
            Self::Cpu => (TORCH, &[]),
            Self::Cuda => (TORCH, CUDA),
            Self::Newer => (NEWER, &[]),
        };
        torch.iter().chain(OF_CPU).chain(more).copied()
    }

    /// About how much there is to fetch.
    pub(super) fn size(self) -> &'static str {
        match self {
            Self::Cpu | Self::Newer => "544 MB",
            Self::Cuda => "2.5 GB",
        }
    }
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const TORCH: &[(&str, &str)] = &[(
    "torch-2.11.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
)];
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const NEWER: &[(&str, &str)] = &[(
    "torch-2.13.0-cp312-cp312-manylinux_2_28_x86_64.whl",
    "796633c4cdf0fe2cdced72d8f88f22e73dbcfce83132763162f6d4bff13b820b",
)];

/// `libtorch_cpu.so` of this platform's wheel loads the two CUDA libraries, which need no GPU.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const OF_CPU: &[(&str, &str)] = &[
    (
        "nvidia_cuda_runtime-13.0.96-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    ),
    (
        "nvidia_cuda_cupti-13.0.85-py3-none-manylinux_2_25_x86_64.whl",
        "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    ),
];

/// The versions that the torch wheel asks for, and the compiler's headers of the same CUDA.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
const CUDA: &[(&str, &str)] = &[
    (
        "nvidia_cublas-13.1.0.3-py3-none-manylinux_2_27_x86_64.whl",
        "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
    ),
    (
        "nvidia_cuda_cccl-13.0.85-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "e0da7ad981f3a8aff08241b5bfc1af868742a63e2762f53a5171c492ef242649",
    ),
    (
        "nvidia_cuda_crt-13.0.88-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4",
    ),
    (
        "nvidia_cuda_nvrtc-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
        "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
    ),
    (
        "nvidia_cudnn_cu13-9.19.0.56-py3-none-manylinux_2_27_x86_64.whl",
        "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
    ),
    (
        "nvidia_cufft-12.0.0.61-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
    ),
    (
        "nvidia_cufile-1.15.1.6-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
    ),
    (
        "nvidia_curand-10.4.0.35-py3-none-manylinux_2_27_x86_64.whl",
        "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
    ),
    (
        "nvidia_cusolver-12.0.4.66-py3-none-manylinux_2_27_x86_64.whl",
        "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
    ),
    (
        "nvidia_cusparse-12.6.3.3-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
    ),
    (
        "nvidia_cusparselt_cu13-0.8.0-py3-none-manylinux2014_x86_64.whl",
        "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
    ),
    (
        "nvidia_nccl_cu13-2.28.9-py3-none-manylinux_2_18_x86_64.whl",
        "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
    ),
    (
        "nvidia_nvjitlink-13.0.88-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
        "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
    ),
    (
        "nvidia_nvshmem_cu13-3.4.5-py3-none-manylinux2014_x86_64.manylinux_2_17_x86_64.whl",
        "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
    ),
];

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
const TORCH: &[(&str, &str)] = &[];
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
const NEWER: &[(&str, &str)] = &[];
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
const OF_CPU: &[(&str, &str)] = &[];
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
const CUDA: &[(&str, &str)] = &[];
