//! Clients that do not send everything.

use http::Method;
use kube::Client;
use kube::client::Body;
use tower::service_fn;

/// A write was about to be sent by something that only looks.
#[derive(Debug, thiserror::Error)]
#[error("{0} was not sent: this client only reads; this is a bug")]
struct NotARead(Method);

/// A client that reads as `client` does and cannot write.
pub fn read_only(client: &Client) -> Client {
    guarded(client, |method| {
        if is_read(method) {
            Ok(())
        } else {
            Err(NotARead(method.clone()))
        }
    })
}

/// Whether a request changes nothing.
pub(crate) fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

/// A client that sends only what `admit` lets through.
pub(crate) fn guarded<E>(
    client: &Client,
    admit: impl Fn(&Method) -> Result<(), E> + Clone + Send + Sync + 'static,
) -> Client
where
    E: std::error::Error + Send + Sync + 'static,
{
    let inner = client.clone();
    let service = service_fn(move |request: http::Request<Body>| {
        let (inner, admitted) = (inner.clone(), admit(request.method()));
        async move {
            admitted.map_err(|refusal| kube::Error::Service(Box::new(refusal)))?;
            inner.send(request).await
        }
    });
    Client::new(service, client.default_namespace())
}
