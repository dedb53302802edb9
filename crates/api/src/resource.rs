//! The two root types as Kubernetes resources.
//!
//! Written out instead of derived, for one reason: the schema requires nothing, `spec` included. A type that insists
//! on `spec` could not decode an object that the API server accepted, and one such object would stop the operator's
//! watch for everybody.

/// Declares a namespaced custom resource of this group: struct, constructor, serde and kube's traits.
macro_rules! custom_resource {
    (
        $(#[$doc:meta])*
        $kind:ident { spec: $spec:ty, status: $status:ty, plural: $plural:literal, singular: $singular:literal, columns: $columns:expr }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
        pub struct $kind {
            /// Standard object metadata.
            #[serde(default)]
            pub metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            /// What the user asks for.
            #[serde(default)]
            pub spec: $spec,
            /// What the operator saw and did; absent until the first reconciliation.
            #[serde(default)]
            pub status: Option<$status>,
        }

        impl $kind {
            /// An object of this kind with a name and a spec, without a namespace.
            pub fn new(name: &str, spec: $spec) -> Self {
                let metadata = k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                    name: Some(name.to_owned()),
                    ..Default::default()
                };
                Self { metadata, spec, status: None }
            }
        }

        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeStruct as _;
                let fields = 4 + usize::from(self.status.is_some());
                let mut object = serializer.serialize_struct(stringify!($kind), fields)?;
                object.serialize_field("apiVersion", $crate::API_VERSION)?;
                object.serialize_field("kind", stringify!($kind))?;
                object.serialize_field("metadata", &self.metadata)?;
                object.serialize_field("spec", &self.spec)?;
                match &self.status {
                    Some(status) => object.serialize_field("status", status)?,
                    None => object.skip_field("status")?,
                }
                object.end()
            }
        }

        impl kube::Resource for $kind {
            type DynamicType = ();
            type Scope = kube::core::NamespaceResourceScope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                stringify!($kind).into()
            }

            fn group((): &()) -> std::borrow::Cow<'_, str> {
                $crate::GROUP.into()
            }

            fn version((): &()) -> std::borrow::Cow<'_, str> {
                $crate::VERSION.into()
            }

            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }

        impl kube::core::object::HasSpec for $kind {
            type Spec = $spec;

            fn spec(&self) -> &Self::Spec {
                &self.spec
            }

            fn spec_mut(&mut self) -> &mut Self::Spec {
                &mut self.spec
            }
        }

        impl kube::core::object::HasStatus for $kind {
            type Status = $status;

            fn status(&self) -> Option<&Self::Status> {
                self.status.as_ref()
            }

            fn status_mut(&mut self) -> &mut Option<Self::Status> {
                &mut self.status
            }
        }

        impl kube::core::crd::v1::CustomResourceExt for $kind {
            fn crd() -> k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition {
                $crate::crd::definition::<Self>()
            }

            fn crd_name() -> &'static str {
                concat!($plural, ".", "volsync.backube")
            }

            fn api_resource() -> kube::core::ApiResource {
                kube::core::ApiResource::erase::<Self>(&())
            }

            fn shortnames() -> &'static [&'static str] {
                &[]
            }
        }

        impl $crate::crd::Kind for $kind {
            type Spec = $spec;
            type Status = $status;
            const SINGULAR: &'static str = $singular;
            const COLUMNS: &'static [$crate::crd::Column] = $columns;
        }
    };
}

pub(crate) use custom_resource;
