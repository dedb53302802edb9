//! Wire formats: JSON, YAML 1.1 and the protobuf envelope of Kubernetes.
