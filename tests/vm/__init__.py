"""Tests in a virtual machine; `./build.sh test --vm` runs them."""
