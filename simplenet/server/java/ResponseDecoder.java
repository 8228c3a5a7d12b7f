package simplenet.server.frontend;

import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelHandlerContext;
import io.netty.handler.codec.ByteToMessageDecoder;
import io.netty.handler.codec.CorruptedFrameException;
import io.netty.handler.codec.TooLongFrameException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.pytorch.serve.util.messages.ModelWorkerResponse;
import org.pytorch.serve.util.messages.Predictions;

/**
 * Reads a worker's responses to a batch as they arrive.
 *
 * <p>TorchServe's decoder begins again with the first response whenever more has arrived: for a batch of n megabytes it
 * copies about 8 n² of them, and holds the whole batch in direct memory. This one goes on where it stopped, and each
 * response goes straight into the array that TorchServe sends.
 *
 * <p>A batch: int32 code, message, then for each response id, Content-Type, int32 status, reason, headers, content; at the
 * end int32 -1. A text is its int32 length and UTF-8; headers are their int32 number and pairs of texts.
 * https://github.com/pytorch/serve/blob/v0.12.0/ts/protocol/otf_message_handler.py
 */
public final class ResponseDecoder extends ByteToMessageDecoder {
    private static final int END = -1;
    private static final int LARGEST_TEXT = 6_500_000; // bytes; TorchServe's own limit

    private final int largest; // content of a response, in bytes
    private ModelWorkerResponse batch; // null between batches
    private List<Predictions> responses;
    private Response response; // null before its head has been read
    private byte[] content;
    private int filled;

    public ResponseDecoder(int largest) {
        this.largest = largest;
    }

    /** Called again and again for as long as it reads something. */
    @Override
    protected void decode(ChannelHandlerContext context, ByteBuf in, List<Object> out) {
        if (response == null) {
            int start = in.readerIndex();
            try {
                readHead(in, out);
            } catch (IndexOutOfBoundsException error) { // the rest of the head has not come yet
                in.readerIndex(start);
                return;
            }
        }
        if (response != null) {
            readContent(in);
        }
    }

    /** The head of a batch, its end, or the head of a response. */
    private void readHead(ByteBuf in, List<Object> out) {
        if (batch == null) {
            ModelWorkerResponse begun = new ModelWorkerResponse();
            begun.setCode(in.readInt());
            begun.setMessage(text(in));
            batch = begun;
            responses = new ArrayList<>();
            return;
        }
        int length = in.readInt();
        if (length == END) {
            batch.setPredictions(responses);
            out.add(batch);
            batch = null;
            return;
        }
        Response begun = new Response();
        begun.setRequestId(text(in, length));
        begun.setContentType(text(in));
        begun.setStatusCode(in.readInt());
        begun.setReasonPhrase(text(in));
        begun.setHeaders(pairs(in));
        int size = in.readInt();
        if (size > largest) {
            throw new TooLongFrameException("a response has " + size + " bytes, of max_response_size " + largest);
        }
        content = new byte[size];
        filled = 0;
        response = begun;
    }

    private void readContent(ByteBuf in) {
        int count = Math.min(in.readableBytes(), content.length - filled);
        in.readBytes(content, filled, count);
        filled += count;
        if (filled == content.length) {
            response.content = content;
            responses.add(response);
            response = null;
            content = null;
        }
    }

    private static String text(ByteBuf in) {
        return text(in, in.readInt());
    }

    private static String text(ByteBuf in, int length) {
        if (length < 0 || length > LARGEST_TEXT) {
            throw new CorruptedFrameException("a worker sent a text of " + length + " bytes");
        }
        if (length > in.readableBytes()) {
            throw new IndexOutOfBoundsException("the rest of a text");
        }
        String text = in.toString(in.readerIndex(), length, StandardCharsets.UTF_8);
        in.skipBytes(length);
        return text;
    }

    private static Map<String, String> pairs(ByteBuf in) {
        Map<String, String> pairs = new HashMap<>();
        for (int left = in.readInt(); left > 0; left--) {
            String name = text(in);
            pairs.put(name, text(in));
        }
        return pairs;
    }

    /** TorchServe's own class copies the content twice. */
    private static final class Response extends Predictions {
        private byte[] content;

        @Override
        public byte[] getResp() {
            return content;
        }
    }
}
