package simplenet.server.frontend;

import io.netty.channel.Channel;
import java.net.InetSocketAddress;
import java.net.SocketAddress;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/** What all connections share: the requests in flight, whether the server drains, and why it is not ready. */
final class Traffic {
    /** The port of predictions; management and metrics have the next two. */
    static final int PORT = Integer.getInteger("simplenet.port", 0);

    /** Seconds after which a client may send a refused request again. */
    static final String RETRY_AFTER_S = "1";

    /** Requests to the port of predictions that are complete and whose response is not yet written to the socket. */
    static final AtomicLong IN_FLIGHT = new AtomicLong();

    /** Bytes of large responses that clients have not read yet: each is copied to direct memory to be sent. */
    static final AtomicLong UNSENT = new AtomicLong();

    /** Seconds without a byte from a client, or to it, after which its connection ends. */
    static final long STALL_S = Long.getLong("simplenet.body.stall", 30);

    static final long MOST_UNSENT = Long.getLong("simplenet.response.budget", Long.MAX_VALUE);

    private static volatile boolean draining;
    private static volatile String unready; // the reason, or null
    private static volatile long longest = Long.MAX_VALUE;
    private static volatile long now = System.nanoTime(); // coarse: set by Watch, cheap to read

    private Traffic() {}

    /** From now on every new request is refused; those in flight are answered. */
    static void drain() {
        draining = true;
    }

    static boolean isDraining() {
        return draining;
    }

    /** Why /ping says that the server is not ready, or null. */
    static String unready() {
        return unready;
    }

    static void setUnready(String reason) {
        unready = reason == null || reason.isEmpty() ? null : reason;
    }

    /** Seconds after which a request without a response is lost: none that is served takes so long. */
    static long longest() {
        return longest;
    }

    static void setLongest(long seconds) {
        longest = seconds;
    }

    static void tick() {
        now = System.nanoTime();
    }

    static long now() {
        return now;
    }

    /** Whole seconds since a time that `now` returned. */
    static long secondsSince(long then) {
        return TimeUnit.NANOSECONDS.toSeconds(now - then);
    }

    static boolean isPredictions(Channel channel) {
        return portOf(channel) == PORT;
    }

    static boolean isManagement(Channel channel) {
        return portOf(channel) == PORT + 1;
    }

    private static int portOf(Channel channel) {
        SocketAddress address = channel.localAddress();
        return address instanceof InetSocketAddress ? ((InetSocketAddress) address).getPort() : -1;
    }
}
