//! A DNS server on loopback whose records a test changes.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use hickory_server::{
    Server,
    net::runtime::TokioRuntimeProvider,
    proto::rr::{
        LowerName, Name, RData, Record, RecordType, RrKey,
        rdata::{SOA, TXT},
    },
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneType},
};
use tokio::net::{TcpListener, UdpSocket};

/// An authoritative server of the zone `example.`; it refuses every other name. Ends when it is dropped.
pub struct DnsServer {
    pub address: SocketAddr,
    zone: Arc<InMemoryZoneHandler>,
    server: Server<Catalog>,
}

impl DnsServer {
    /// A server without records.
    pub async fn start() -> Self {
        let origin = Name::from_ascii("example.").unwrap();
        let host = Name::from_ascii("ns.example.").unwrap();
        let zone = InMemoryZoneHandler::<TokioRuntimeProvider>::empty(
            origin.clone(),
            ZoneType::Primary,
            AxfrPolicy::Deny,
        );
        let soa = SOA::new(host.clone(), host, 1, 60, 60, 60, 0);
        zone.upsert(Record::from_rdata(origin.clone(), 60, RData::SOA(soa)), 1).await;
        let zone = Arc::new(zone);
        let mut catalog = Catalog::new();
        catalog.upsert(LowerName::new(&origin), vec![zone.clone()]);
        let mut server = Server::new(catalog);
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().unwrap();
        server.register_socket(udp);
        server.register_listener(tcp, Duration::from_secs(5), 16);
        Self { address, zone, server }
    }

    /// Makes these the only TXT records of a name; each is a list of its parts.
    pub async fn set_txt(&self, name: &str, records: &[&[&str]]) {
        let name = Name::from_ascii(format!("{name}.")).unwrap();
        {
            let mut all = self.zone.records_mut().await;
            let all: &mut BTreeMap<_, _> = &mut all;
            all.remove(&RrKey::new(LowerName::new(&name), RecordType::TXT));
        }
        for parts in records {
            let txt = TXT::new(parts.iter().map(|&part| part.to_owned()).collect());
            self.zone.upsert(Record::from_rdata(name.clone(), 3_600, RData::TXT(txt)), 1).await;
        }
    }

    /// Stops answering.
    pub async fn stop(mut self) {
        self.server.shutdown_gracefully().await.unwrap();
    }
}

/// Two sockets of the same port.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}
