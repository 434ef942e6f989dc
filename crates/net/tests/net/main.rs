//! The TLS and connection rules, on real sockets, with our own client and with openssl.

mod bed;
mod ca;
mod openssl;

mod certificates;
mod connections;
mod http;
mod profiles;
mod reload;
