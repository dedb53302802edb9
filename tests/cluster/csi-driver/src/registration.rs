//! The kubelet's plugin registration: it finds a socket in its folder and asks who is there.

use tonic::{Request, Response, Status};

use crate::driver::NAME;
use crate::proto::registration::registration_server::Registration;
use crate::proto::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
};
use crate::server;

/// The service; CSI is served at the endpoint it names.
pub(crate) struct Registered {
    /// The absolute path of the socket.
    pub(crate) endpoint: String,
}

#[tonic::async_trait]
impl Registration for Registered {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: NAME.to_owned(),
            endpoint: self.endpoint.clone(),
            supported_versions: vec!["1.0.0".to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let told = request.into_inner();
        if told.plugin_registered {
            server::say("registered with the kubelet");
        } else {
            // It asks again when its folder changes or it starts anew.
            server::say(&format!("the kubelet did not register us: {}", told.error));
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
