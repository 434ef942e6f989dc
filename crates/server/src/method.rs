//! What each RPC declares of itself, read from the descriptor set: its permission, and whether it is public.

use std::collections::HashMap;

use airunner_core::{Error, Permission, Result};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};

/// What an RPC declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// What its caller must hold.
    pub permission: Permission,
    /// Served on the public listener too, without a certificate.
    pub public: bool,
    /// Answers with a stream, which ends when its caller's authority does.
    pub streaming: bool,
    /// Takes a stream of messages.
    pub takes_stream: bool,
}

impl Method {
    /// Whether a call of it goes on for as long as its caller likes.
    pub fn is_stream(&self) -> bool {
        self.streaming || self.takes_stream
    }
}

/// Every RPC by its path, `/package.Service/Method`.
#[derive(Debug)]
pub struct Methods(HashMap<String, Method>);

/// Characters of a name that an error repeats at most.
const LONGEST: usize = 100;

/// Services that are not ours to annotate: on the API listener for every known principal, nowhere else.
const STANDARD: &[&str] = &[
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

impl Methods {
    /// Reads the descriptor set.
    ///
    /// # Errors
    /// `internal` for an RPC that declares no permission, an unknown one, or `public` with another than `anonymous`.
    pub fn load(descriptor_set: &[u8]) -> Result<Self> {
        let pool = DescriptorPool::decode(descriptor_set).map_err(Error::internal)?;
        let mut methods = HashMap::new();
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let declared = declared(&pool, &method)?;
            methods.insert(path, declared);
        }
        let standard = Method {
            permission: Permission::SelfService,
            public: false,
            streaming: true,
            takes_stream: true,
        };
        methods.extend(STANDARD.iter().map(|path| ((*path).to_owned(), standard)));
        Ok(Self(methods))
    }

    /// What the RPC at this path declares.
    pub fn get(&self, path: &str) -> Option<Method> {
        self.0.get(path).copied()
    }

    /// The RPC that a person means: its path, or as much of its end as names one, with `/` or `.` between the words, in
    /// any case.
    ///
    /// # Errors
    /// `invalid-argument` naming those that may be meant.
    pub fn find(&self, name: &str) -> Result<(&str, Method)> {
        const SHOWN: usize = 5;
        let wanted = words(name);
        let is_meant = |path: &&str| {
            let path = words(path);
            path.strip_suffix(&wanted).is_some_and(|before| before.is_empty() || before.ends_with('/'))
        };
        // A name comes back in trailers, which are short.
        let told: String = name.chars().take(LONGEST).collect();
        let mut meant: Vec<&str> = self.0.keys().map(String::as_str).filter(is_meant).collect();
        meant.sort_unstable();
        match (wanted.is_empty(), meant.as_slice()) {
            (false, [path]) => Ok((path, self.0[*path])),
            (false, [_, _, ..]) => {
                meant.truncate(SHOWN);
                Err(Error::invalid("method", format!("{told:?} may be {}", meant.join(" or "))))
            }
            _ => Err(Error::invalid(
                "method",
                format!("there is no RPC {told:?}: name one, as in CancelJob or JobService/CancelJob"),
            )),
        }
    }

    /// Every path with what is declared there.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Method)> {
        self.0.iter().map(|(path, method)| (path.as_str(), *method))
    }
}

/// A name as names are compared.
fn words(name: &str) -> String {
    name.trim().trim_start_matches('/').replace('.', "/").to_ascii_lowercase()
}

fn declared(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<Method> {
    let options = method.options();
    let fault = |what: &str| Error::internal(format!("{} {what}", method.full_name()));
    let permission = option(pool, &options, "airunner.authz.v1.permission")
        .and_then(|value| value.as_str().map(str::to_owned))
        .ok_or_else(|| fault("declares no permission"))?;
    let permission: Permission = permission.parse().map_err(|_| fault("declares an unknown permission"))?;
    let public = option(pool, &options, "airunner.authz.v1.public")
        .and_then(|value| value.as_bool())
        .unwrap_or_default();
    if public != (permission == Permission::Anonymous) {
        return Err(fault("is public without being anonymous, or the other way round"));
    }
    Ok(Method {
        permission,
        public,
        streaming: method.is_server_streaming(),
        takes_stream: method.is_client_streaming(),
    })
}

fn option(pool: &DescriptorPool, options: &DynamicMessage, name: &str) -> Option<prost_reflect::Value> {
    let extension = pool.get_extension_by_name(name)?;
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_declares_what_it_needs() {
        let methods = Methods::load(airunner_proto::DESCRIPTOR_SET).unwrap();
        let get = |path| methods.get(path).unwrap();
        assert_eq!(get("/airunner.ca.v1.EnrollmentService/Enroll").permission, Permission::Anonymous);
        assert!(get("/airunner.ca.v1.CertificateService/GetTrustBundle").public);
        let suspend = get("/airunner.principal.v1.PrincipalService/SuspendPrincipal");
        assert_eq!(
            suspend,
            Method {
                permission: Permission::PrincipalsManage,
                public: false,
                streaming: false,
                takes_stream: false
            }
        );
        assert!(methods.get("/airunner.principal.v1.PrincipalService/Nothing").is_none());
    }

    #[test]
    fn a_person_names_an_rpc_by_as_much_as_it_takes() {
        let methods = Methods::load(airunner_proto::DESCRIPTOR_SET).unwrap();
        let path = "/airunner.job.v1.JobService/CancelJob";
        for name in [
            path,
            "airunner.job.v1.JobService.CancelJob",
            "JobService/CancelJob",
            "JobService.CancelJob",
            "CancelJob",
            "canceljob",
        ] {
            assert_eq!(methods.find(name).unwrap().0, path, "{name}");
        }
        for wrong in ["", "/", "Job", "ancelJob", "JobService"] {
            let error = methods.find(wrong).unwrap_err();
            assert!(error.message().contains("there is no RPC"), "{wrong}: {error}");
        }
        assert!(methods.find(&"x".repeat(10_000)).unwrap_err().message().len() < 200);
        let error = methods.find("ServerReflectionInfo").unwrap_err();
        assert!(error.message().contains(" or /grpc.reflection.v1alpha"), "{error}");
    }
}
