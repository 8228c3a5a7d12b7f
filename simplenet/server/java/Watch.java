package simplenet.server.frontend;

import java.util.Comparator;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A thread that looks, four times a second, for what waits too long: in a queue, or on a connection. */
final class Watch implements Runnable {
    private static final Logger LOGGER = LoggerFactory.getLogger(Watch.class);
    private static final long PERIOD_MS = 250;
    private static final Set<Watched> CONNECTIONS = ConcurrentHashMap.newKeySet();

    static {
        Thread thread = new Thread(new Watch(), "simplenet-watch");
        thread.setDaemon(true);
        thread.start();
    }

    /** Part of a connection that may wait too long. */
    interface Watched {
        long BUSY = Long.MIN_VALUE;

        /** Called from this thread; must hand any work to the connection's event loop. */
        void look();

        /** Whether a request was accepted whose body still arrives. */
        default boolean isReceiving() {
            return false;
        }

        /** A time that `Traffic.now` returned, or BUSY. */
        default long idleSince() {
            return BUSY;
        }

        /** End an idle connection: from now on it is BUSY. */
        default void evict() {}
    }

    private final Queues queues = new Queues();

    private Watch() {}

    static void add(Watched connection) {
        CONNECTIONS.add(connection);
    }

    static void remove(Watched connection) {
        CONNECTIONS.remove(connection);
    }

    /** End the connection that has been without a request for longest: there are too many. */
    static synchronized void evictOne() {
        CONNECTIONS.stream()
                .filter(watched -> watched.idleSince() != Watched.BUSY)
                .min(Comparator.comparingLong(watched -> watched.idleSince() - Traffic.now()))
                .ifPresent(Watched::evict);
    }

    /** How many requests were accepted whose bodies still arrive. */
    static long receiving() {
        return CONNECTIONS.stream().filter(Watched::isReceiving).count();
    }

    @Override
    public void run() {
        boolean failed = false;
        while (true) {
            try {
                Thread.sleep(PERIOD_MS);
                Traffic.tick();
                CONNECTIONS.forEach(Watched::look);
                queues.clean();
            } catch (Throwable error) {
                if (!failed) { // once: the next round would say the same
                    LOGGER.error("the frontend cannot look for requests that wait too long", error);
                }
                failed = true;
            }
        }
    }
}
