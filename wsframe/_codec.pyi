"""Types of the compiled codec: those of its twin, which is the reference."""

from ._codec_py import Assembler as Assembler
from ._codec_py import CodecError as CodecError
from ._codec_py import Decoder as Decoder
from ._codec_py import Frame as Frame
from ._codec_py import MaskingKeys as MaskingKeys
from ._codec_py import Message as Message
from ._codec_py import MessageChunk as MessageChunk
from ._codec_py import apply_mask as apply_mask
from ._codec_py import decode_header as decode_header
from ._codec_py import encode_frame as encode_frame
from ._codec_py import encode_header as encode_header
