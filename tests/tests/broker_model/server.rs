//! The two brokers behind one face: a pool's queue with the arguments of production, clients that
//! publish numbers to it and consume it, and its dead letters.

use flotilla_tests::servers::Servers;

use crate::memory::Memory;
use crate::rabbit::Rabbit;

/// A connection that consumes, a connection that publishes, and a channel with its consumer: they
/// count from 0 in the order in which they were opened.
pub type ConnectionNo = usize;
pub type PublisherNo = usize;
pub type ChannelNo = usize;

/// A message in the hands of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Its number on the channel.
    pub tag: u64,
    /// What it says.
    pub number: u32,
    /// How often it has come back.
    pub returns: u32,
}

/// What a publisher is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    Confirmed,
    Returned,
    /// Nothing yet: the broker does not read it.
    Blocked,
}

/// A broker, with one queue.
pub enum Server {
    Memory(Box<Memory>),
    Rabbit(Box<Rabbit>),
}

/// Runs a case on the model and on RabbitMQ.
pub async fn on_both(case: impl AsyncFn(&mut Server)) {
    println!("in memory:");
    case(&mut Server::Memory(Box::new(Memory::new()))).await;
    let servers = Servers::from_environment();
    let turn = servers.turn(false).await;
    println!("on RabbitMQ:");
    run(servers, &case).await;
    drop(turn);
}

/// The same for a case that changes the broker for everybody. Says so where it may not.
pub async fn on_both_alone(name: &str, case: impl AsyncFn(&mut Server)) {
    println!("in memory:");
    case(&mut Server::Memory(Box::new(Memory::new()))).await;
    let servers = Servers::from_environment();
    if servers.may_be_stopped(name) {
        let turn = servers.turn(true).await;
        println!("on RabbitMQ:");
        run(servers, &case).await;
        drop(turn);
    }
}

async fn run(servers: Servers, case: &impl AsyncFn(&mut Server)) {
    let mut server = Server::Rabbit(Box::new(Rabbit::new(servers).await));
    case(&mut server).await;
    if let Server::Rabbit(rabbit) = server {
        rabbit.end().await;
    }
}

impl Server {
    pub async fn connect(&mut self) -> ConnectionNo {
        match self {
            Self::Memory(memory) => memory.connect(),
            Self::Rabbit(rabbit) => rabbit.connect().await,
        }
    }

    pub async fn publisher(&mut self) -> PublisherNo {
        match self {
            Self::Memory(memory) => memory.publisher(),
            Self::Rabbit(rabbit) => rabbit.publisher().await,
        }
    }

    /// Consumes the queue on a new channel; `None` if it is not there.
    pub async fn try_consume(
        &mut self,
        connection: ConnectionNo,
        prefetch: u16,
    ) -> Option<ChannelNo> {
        match self {
            Self::Memory(memory) => memory.consume(connection, prefetch),
            Self::Rabbit(rabbit) => rabbit.consume(connection, prefetch).await,
        }
    }

    pub async fn consume(&mut self, connection: ConnectionNo, prefetch: u16) -> ChannelNo {
        let channel = self.try_consume(connection, prefetch).await;
        channel.expect("the queue is there")
    }

    pub async fn publish(&mut self, publisher: PublisherNo, number: u32, mandatory: bool) -> Told {
        match self {
            Self::Memory(memory) => memory.publish(publisher, number, mandatory),
            Self::Rabbit(rabbit) => rabbit.publish(publisher, number, mandatory).await,
        }
    }

    /// Publishes these numbers.
    pub async fn fill(&mut self, numbers: std::ops::RangeInclusive<u32>) {
        let publisher = self.publisher().await;
        for number in numbers {
            let told = self.publish(publisher, number, true).await;
            assert_eq!(told, Told::Confirmed);
        }
    }

    /// What becomes of the publications that were blocked.
    pub async fn unblocked(&mut self) -> Vec<Told> {
        match self {
            Self::Memory(memory) => memory.unblocked(),
            Self::Rabbit(rabbit) => rabbit.unblocked().await,
        }
    }

    /// The next delivery on a channel, which must come.
    pub async fn next(&mut self, channel: ChannelNo) -> Delivered {
        match self {
            Self::Memory(memory) => memory.next(channel).expect("a delivery"),
            Self::Rabbit(rabbit) => rabbit.next(channel).await.expect("a delivery"),
        }
    }

    /// The numbers of the next deliveries and how often they have come back; the last tag.
    pub async fn take(&mut self, channel: ChannelNo, count: usize) -> (Vec<(u32, u32)>, u64) {
        let mut taken = Vec::new();
        let mut last = 0;
        for _ in 0..count {
            let delivered = self.next(channel).await;
            taken.push((delivered.number, delivered.returns));
            last = delivered.tag;
        }
        (taken, last)
    }

    /// Nothing may be delivered on a channel that lives.
    pub async fn is_idle(&mut self, channel: ChannelNo) -> bool {
        match self {
            Self::Memory(memory) => memory.is_idle(channel),
            Self::Rabbit(rabbit) => rabbit.is_idle(channel).await,
        }
    }

    /// Whether the consumer of a channel learns of its end.
    pub async fn has_ended(&mut self, channel: ChannelNo) -> bool {
        match self {
            Self::Memory(memory) => memory.has_ended(channel),
            Self::Rabbit(rabbit) => rabbit.next(channel).await.is_none(),
        }
    }

    /// Acknowledges; `false` if the channel is closed.
    pub async fn acknowledge(&mut self, channel: ChannelNo, tag: u64, multiple: bool) -> bool {
        match self {
            Self::Memory(memory) => memory.acknowledge(channel, tag, multiple),
            Self::Rabbit(rabbit) => rabbit.acknowledge(channel, tag, multiple).await,
        }
    }

    pub async fn close_channel(&mut self, channel: ChannelNo) {
        match self {
            Self::Memory(memory) => memory.close_channel(channel),
            Self::Rabbit(rabbit) => rabbit.close_channel(channel).await,
        }
    }

    pub async fn close_connection(&mut self, connection: ConnectionNo) {
        match self {
            Self::Memory(memory) => memory.close_connection(connection),
            Self::Rabbit(rabbit) => rabbit.close_connection(connection).await,
        }
    }

    /// So many messages must come to wait in the queue: what a channel gives back takes its time.
    pub async fn will_hold(&mut self, count: usize) {
        match self {
            Self::Memory(memory) => assert_eq!(memory.ready(), Some(count)),
            Self::Rabbit(rabbit) => rabbit.will_hold(count).await,
        }
    }

    /// Removes what waits in the queue. Only where the broker is ours.
    pub fn purge(&mut self) {
        match self {
            Self::Memory(memory) => memory.purge(),
            Self::Rabbit(rabbit) => rabbit.purge(),
        }
    }

    pub async fn delete_queue(&mut self) {
        match self {
            Self::Memory(memory) => memory.delete_queue(),
            Self::Rabbit(rabbit) => rabbit.delete_queue().await,
        }
    }

    pub async fn declare_queue(&mut self) {
        match self {
            Self::Memory(memory) => memory.declare_queue(),
            Self::Rabbit(rabbit) => rabbit.declare_queue().await,
        }
    }

    /// The next dead letters of the queue, with the reason.
    pub async fn dead_letters(&mut self, count: usize) -> Vec<(Delivered, String)> {
        match self {
            Self::Memory(memory) => memory.dead_letters(count),
            Self::Rabbit(rabbit) => rabbit.dead_letters(count).await,
        }
    }

    /// The broker is out of memory while something happens.
    pub async fn during_alarm(&mut self, happening: impl AsyncFnOnce(&mut Self)) {
        let raised = match self {
            Self::Memory(memory) => {
                memory.set_alarm(true);
                None
            }
            Self::Rabbit(rabbit) => Some(rabbit.servers()),
        };
        let alarm = raised.as_ref().map(flotilla_tests::Alarm::raise);
        happening(self).await;
        drop(alarm);
        if let Self::Memory(memory) = self {
            memory.set_alarm(false);
        }
    }
}
